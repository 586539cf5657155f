//! Sequence batching: its strategies, the control tensors and the initial states.

use std::collections::HashSet;

use nereid_inference::{DataType, Result};

use super::{check, scheduling::check_preferred};
use crate::proto::{
    ModelConfig, ModelSequenceBatching,
    model_sequence_batching::{Control, InitialState, State, StrategyChoice, control::Kind},
};

pub(super) fn validate(config: &ModelConfig, sequence: &ModelSequenceBatching) -> Result<()> {
    let name = &config.name;
    validate_controls(name, sequence)?;
    match &sequence.strategy_choice {
        Some(StrategyChoice::Oldest(oldest)) => check_preferred(
            "sequence batching preferred batch size",
            &oldest.preferred_batch_size,
            config,
        )?,
        Some(StrategyChoice::Direct(direct)) => {
            check((0.0..=1.0).contains(&direct.minimum_slot_utilization), || {
                format!(
                    "sequence batching minimum slot utilization must be in range (0.0, 1.0] for \
                     {name}"
                )
            })?;
        }
        None => {}
    }
    Ok(())
}

/// Each kind of signal has at most one tensor, and each tensor one entry.
fn validate_controls(name: &str, sequence: &ModelSequenceBatching) -> Result<()> {
    for kind in [
        Kind::ControlSequenceStart,
        Kind::ControlSequenceEnd,
        Kind::ControlSequenceReady,
        Kind::ControlSequenceCorrid,
    ] {
        let mut tensors = HashSet::new();
        let mut seen = false;
        for input in &sequence.control_input {
            check(!input.name.is_empty(), || {
                format!("sequence batching control tensor must have a name for {name}")
            })?;
            check(tensors.insert(&input.name), || {
                format!(
                    "sequence batching control tensor '{}' is specified for multiple control \
                     kinds for {name}",
                    input.name
                )
            })?;
            for control in input.control.iter().filter(|control| control.kind() == kind) {
                let kind = kind.as_str_name();
                check(!std::mem::replace(&mut seen, true), || {
                    format!("sequence batching specifies multiple {kind} tensors for {name}")
                })?;
                validate_control(name, control)?;
            }
        }
    }
    Ok(())
}

fn validate_control(name: &str, control: &Control) -> Result<()> {
    let kind = control.kind().as_str_name();
    let entries = [
        ("int32_false_true", control.int32_false_true.len()),
        ("fp32_false_true", control.fp32_false_true.len()),
        ("bool_false_true", control.bool_false_true.len()),
    ];
    let given = entries.iter().filter(|(_, entries)| *entries > 0).count();
    if control.kind() == Kind::ControlSequenceCorrid {
        check(is_correlation_type(control), || {
            format!(
                "unexpected data type for control {kind} for {name}. Allowed data types are \
                 TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
            )
        })?;
        return check(given == 0, || {
            format!(
                "sequence batching must not specify either 'int32_false_true', \
                 'fp32_false_true' or 'bool_false_true' for {kind} for {name}"
            )
        });
    }
    check(given > 0, || {
        format!(
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or \
             'bool_false_true' for {kind} for {name}"
        )
    })?;
    check(given == 1, || {
        format!(
            "sequence batching specifies more than one from 'int32_false_true', \
             'fp32_false_true' and 'bool_false_true' for {kind} for {name}"
        )
    })?;
    entries.iter().filter(|(_, entries)| *entries > 0).try_for_each(|(values, entries)| {
        check(*entries == 2, || {
            format!(
                "sequence batching control '{values}' must have exactly 2 entries for {kind} for \
                 {name}"
            )
        })
    })
}

fn is_correlation_type(control: &Control) -> bool {
    use DataType::{Bytes, Int32, Int64, Uint32, Uint64};
    matches!(control.datatype(), Some(Uint64 | Int64 | Uint32 | Int32 | Bytes))
}

/// What the sequences of a model begin with fits the model's states.
pub(super) fn validate_states(sequence: &ModelSequenceBatching) -> Result<()> {
    sequence.state.iter().try_for_each(|state| {
        state.initial_state.iter().try_for_each(|initial| validate_initial(state, initial))
    })
}

fn validate_initial(state: &State, initial: &InitialState) -> Result<()> {
    let name = &state.input_name;
    check(initial.state_data.is_some(), || {
        format!("initial_state setting expects state'{name}' to have state_data set")
    })?;
    check(!initial.name.is_empty(), || {
        format!("Field 'name' must be set when using initial_state for state input '{name}'.")
    })?;
    check(initial.data_type == state.data_type, || {
        format!(
            "The data type used for 'initial_state' field of state '{name}' does not match the \
             state data type."
        )
    })?;
    let (ranks, dims) = ((initial.dims.len(), state.dims.len()), &initial.dims);
    check(ranks.0 == ranks.1, || {
        format!(
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions \
             for state input '{name}'. {} != {}",
            ranks.0, ranks.1
        )
    })?;
    check(dims.iter().all(|&dim| dim != -1), || {
        format!("'initial_state' field for state input name '{name}' contains variable dimensions.")
    })?;
    let mut pairs = dims.iter().zip(&state.dims);
    pairs.find(|(initial, state)| **state != -1 && initial != state).map_or(Ok(()), |(a, b)| {
        check(false, || {
            format!(
                "'initial_state' dim for input name '{name}' doesn't match 'state' dim \
                 description. {a} != {b}"
            )
        })
    })
}
