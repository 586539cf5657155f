//! Compiles `grpc_service.proto` to Rust, and to the descriptors that reflection shows.

use std::{env, error::Error, fs, path::PathBuf};

/// Where `model_config.proto` is: the crate that reads configurations has the only copy.
const MODEL_CONFIG: &str = "../model-config/src";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed={MODEL_CONFIG}/model_config.proto");
    let descriptors = protox::compile(["grpc_service.proto"], ["proto", MODEL_CONFIG])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    let mut generator = tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        // Tensors become slices of the buffer in which their message was received.
        .bytes(".inference")
        .btree_map(".inference");
    // The configuration's messages exist already.
    let elsewhere = descriptors.file.iter().filter(|file| file.name() == "model_config.proto");
    for name in elsewhere.flat_map(|file| {
        let messages = file.message_type.iter().map(|message| message.name());
        messages.chain(file.enum_type.iter().map(|of| of.name()))
    }) {
        let rust = format!("::nereid_model_config::proto::{name}");
        generator = generator.extern_path(format!(".inference.{name}"), rust);
    }
    generator.compile_fds(descriptors.clone())?;
    Ok(())
}
