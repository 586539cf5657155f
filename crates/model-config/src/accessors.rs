//! What the rest of Nereid asks a configuration, without the detours of the generated structs.

use std::str::FromStr;

use nereid_inference::{DataType, Error, Result};

use crate::proto::{
    self, BatchInput, ModelConfig, ModelDynamicBatching, ModelEnsembling, ModelInput, ModelOutput,
    ModelSequenceBatching, model_config::SchedulingChoice,
};
use crate::{model_sequence_batching, model_warmup, platform};

impl ModelConfig {
    /// Whether a request may get any number of responses.
    pub fn decoupled(&self) -> bool {
        self.model_transaction_policy.as_ref().is_some_and(|policy| policy.decoupled)
    }

    /// Whether tensors have a batch dimension in front of the configured ones.
    pub fn batches(&self) -> bool {
        self.max_batch_size > 0
    }

    /// `dims` of a tensor as clients see them: with a batch dimension, -1, where the model batches.
    pub fn full_dims(&self, dims: &[i64]) -> Vec<i64> {
        let batch = self.batches().then_some(-1);
        batch.into_iter().chain(dims.iter().copied()).collect()
    }

    pub fn is_ensemble(&self) -> bool {
        self.platform == platform::ENSEMBLE
    }

    /// Whether responses of the model are to be cached.
    pub fn caches_responses(&self) -> bool {
        self.response_cache.as_ref().is_some_and(|cache| cache.enable)
    }

    pub fn dynamic_batching(&self) -> Option<&ModelDynamicBatching> {
        match &self.scheduling_choice {
            Some(SchedulingChoice::DynamicBatching(dynamic)) => Some(dynamic),
            _ => None,
        }
    }

    pub fn sequence_batching(&self) -> Option<&ModelSequenceBatching> {
        match &self.scheduling_choice {
            Some(SchedulingChoice::SequenceBatching(sequence)) => Some(sequence),
            _ => None,
        }
    }

    pub fn ensemble_scheduling(&self) -> Option<&ModelEnsembling> {
        match &self.scheduling_choice {
            Some(SchedulingChoice::EnsembleScheduling(ensemble)) => Some(ensemble),
            _ => None,
        }
    }

    /// The value of `parameters { key: ... value { string_value: ... } }`.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(|parameter| parameter.string_value.as_str())
    }

    /// As [`Self::parameter`], for a whole number of the type asked for.
    ///
    /// # Errors
    /// Invalid argument, in the words of Triton's backends, if it is no such number.
    pub fn number_parameter<T: FromStr>(&self, key: &str) -> Result<Option<T>> {
        let parse = |value: &str| {
            value.trim().parse().map_err(|_| {
                Error::invalid_arg(format!(
                    "failed to convert '{value}' to integral number for parameter '{key}'"
                ))
            })
        };
        self.parameter(key).map(parse).transpose()
    }

    /// The backend that runs the model: the one it names, else the one that its platform, else the
    /// one that its file stands for; empty for ensembles and where nothing tells.
    pub fn backend_name(&self) -> &str {
        if !self.backend.is_empty() {
            return &self.backend;
        }
        let from_platform = platform::backend_of_platform(&self.platform);
        let from_file = || platform::backend_of_file(&self.default_model_filename);
        from_platform.or_else(from_file).unwrap_or_default()
    }

    /// The states of sequences whose outputs are not for clients to see.
    pub fn hidden_states(&self) -> impl Iterator<Item = &model_sequence_batching::State> {
        let states = self.sequence_batching().map_or(&[][..], |sequence| &sequence.state);
        states.iter().filter(|state| self.find_output(&state.output_name).is_none())
    }

    pub fn find_input(&self, name: &str) -> Option<&ModelInput> {
        self.input.iter().find(|input| input.name == name)
    }

    pub fn find_output(&self, name: &str) -> Option<&ModelOutput> {
        self.output.iter().find(|output| output.name == name)
    }
}

impl ModelInput {
    /// `None`: not given, or a number without a name.
    pub fn datatype(&self) -> Option<DataType> {
        datatype(self.data_type)
    }
}

impl ModelOutput {
    /// `None`: not given, or a number without a name.
    pub fn datatype(&self) -> Option<DataType> {
        datatype(self.data_type)
    }
}

impl BatchInput {
    /// `None`: not given, or a number without a name.
    pub fn datatype(&self) -> Option<DataType> {
        datatype(self.data_type)
    }
}

impl model_sequence_batching::Control {
    /// `None`: not given, or a number without a name.
    pub fn datatype(&self) -> Option<DataType> {
        datatype(self.data_type)
    }
}

impl model_sequence_batching::State {
    /// `None`: not given, or a number without a name.
    pub fn datatype(&self) -> Option<DataType> {
        datatype(self.data_type)
    }
}

impl model_sequence_batching::InitialState {
    /// `None`: not given, or a number without a name.
    pub fn datatype(&self) -> Option<DataType> {
        datatype(self.data_type)
    }
}

impl model_warmup::Input {
    /// `None`: not given, or a number without a name.
    pub fn datatype(&self) -> Option<DataType> {
        datatype(self.data_type)
    }
}

/// The element type behind a number of the configuration's enum.
pub fn datatype(number: i32) -> Option<DataType> {
    let name = proto::DataType::try_from(number).ok()?.as_str_name();
    DataType::ALL.into_iter().find(|datatype| datatype.config_name() == name)
}

/// The number of an element type in the configuration's enum.
pub fn datatype_number(datatype: DataType) -> i32 {
    proto::DataType::from_str_name(datatype.config_name()).unwrap_or_default() as i32
}
