//! `nereid init`: writes a `config.pbtxt` to start from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use nereid_backend::{Backend, ModelSource};
use nereid_inference::{DataType, Error, Result};
use nereid_model_config::{ModelConfig, datatype_number, to_pbtxt_with};

use crate::backends;
use crate::flags::backend_setting;

#[derive(Args, Debug)]
pub(crate) struct InitFlags {
    /// The model: an .onnx, a .pt or a model.py.
    model: PathBuf,
    /// Where to write to; `-` is the terminal. Without it, the folder of the model, if the file
    /// lies in a version folder (`<model>/1/<file>`), else the terminal.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// As of `nereid serve`.
    #[arg(long, value_name = "SETTING", value_parser = backend_setting)]
    backend_config: Vec<(String, String, String)>,
}

pub(crate) fn run(flags: &InitFlags) -> ExitCode {
    let written = draft(flags).and_then(|text| match target(flags) {
        Some(file) => write(flags, &file, &text),
        None => {
            print!("{text}");
            Ok(())
        }
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.message());
            ExitCode::FAILURE
        }
    }
}

fn target(flags: &InitFlags) -> Option<PathBuf> {
    match &flags.output {
        Some(terminal) if terminal == Path::new("-") => None,
        Some(file) => Some(file.clone()),
        None => model_folder(&flags.model).map(|folder| folder.join("config.pbtxt")),
    }
}

/// The folder of the model, if its file lies in a version folder.
fn model_folder(file: &Path) -> Option<PathBuf> {
    let file = file.canonicalize().ok()?;
    let version = file.parent()?;
    version.file_name()?.to_str()?.parse::<u64>().ok()?;
    version.parent().map(Path::to_owned)
}

fn write(flags: &InitFlags, file: &Path, text: &str) -> Result<()> {
    let place = file.display();
    if file.exists() && !flags.force {
        let message = format!("{place} is there already; --force replaces it");
        return Err(Error::invalid_arg(message));
    }
    fs::write(file, text)
        .map_err(|error| Error::internal(format!("cannot write {place}: {error}")))?;
    println!("wrote {place}");
    Ok(())
}

fn draft(flags: &InitFlags) -> Result<String> {
    let file = flags.model.canonicalize().map_err(|error| {
        Error::not_found(format!("cannot read {}: {error}", flags.model.display()))
    })?;
    let backends = backends::all(Path::new(""));
    let backend = backend_of(&file, &backends)?;
    let config = backend.draft(&source(flags, &file, backend))?;
    Ok(text(config, &file, backend))
}

/// By the extension of the file.
fn backend_of<'a>(file: &Path, backends: &'a [Box<dyn Backend>]) -> Result<&'a dyn Backend> {
    let extension = file.extension();
    let takes = |backend: &&dyn Backend| {
        backend.default_filename().is_some_and(|usual| Path::new(usual).extension() == extension)
    };
    extension.and_then(|_| backends.iter().map(AsRef::as_ref).find(takes)).ok_or_else(|| {
        let usual = backends.iter().filter_map(|backend| backend.default_filename());
        let usual: Vec<&str> = usual.collect();
        let message = format!("{} is no {}", file.display(), usual.join(", "));
        Error::invalid_arg(message)
    })
}

fn source(flags: &InitFlags, file: &Path, backend: &dyn Backend) -> ModelSource {
    let folder = file.parent().unwrap_or(file);
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let settings =
        flags.backend_config.iter().filter(|(b, ..)| b.is_empty() || b == backend.name());
    ModelSource {
        name: file.display().to_string(),
        version: 1,
        model_dir: folder.parent().unwrap_or(folder).to_owned(),
        version_dir: folder.to_owned(),
        config: Arc::new(ModelConfig { default_model_filename: name, ..Default::default() }),
        settings: settings.map(|(_, key, value)| (key.clone(), value.clone())).collect(),
    }
}

fn text(mut config: ModelConfig, file: &Path, backend: &dyn Backend) -> String {
    let file_name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    backend.name().clone_into(&mut config.backend);
    if backend.default_filename() != Some(&file_name) {
        config.default_model_filename.clone_from(&file_name);
    }
    let guessed = fill_gaps(&mut config);
    let mut text = format!("# Begun from {file_name}.\n");
    if guessed {
        text.push_str(
            "#\n# The file does not say which types and shapes its tensors have: data_type and \
             dims are\n# guesses. Correct them.\n",
        );
    }
    if config.max_batch_size == 0 {
        text.push_str(
            "#\n# If the first dimension of every tensor is a batch, say max_batch_size: 8 or so \
             and leave\n# that dimension out of dims; dynamic_batching { } then lets requests run \
             together.\n",
        );
    }
    text + "\n" + &to_pbtxt_with(&config, comment)
}

/// Types and shapes that the file does not tell. Whether there were any.
fn fill_gaps(config: &mut ModelConfig) -> bool {
    let float = datatype_number(DataType::Fp32);
    let mut guessed = false;
    let mut fill = |data_type: &mut i32, dims: &mut Vec<i64>| {
        if *data_type == 0 {
            *data_type = float;
            dims.push(-1);
            guessed = true;
        }
    };
    for input in &mut config.input {
        fill(&mut input.data_type, &mut input.dims);
    }
    for output in &mut config.output {
        fill(&mut output.data_type, &mut output.dims);
    }
    guessed
}

fn comment(field: &str) -> Option<&'static str> {
    Some(match field {
        "ModelConfig.backend" => "What runs the model.",
        "ModelConfig.max_batch_size" => {
            "The most rows that run together. Tensors have a batch dimension in front of dims."
        }
        "ModelConfig.input" => "What a request brings. -1: any size.",
        "ModelConfig.output" => "What it gets back.",
        "ModelConfig.dynamic_batching" => {
            "Requests that wait run together. max_queue_delay_microseconds lets them wait for others."
        }
        "ModelConfig.default_model_filename" => "The file in the version's folder.",
        _ => return None,
    })
}
