//! Compiles `model_config.proto` to Rust structs and to the descriptors that reading text needs.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src/model_config.proto");
    let descriptors = protox::compile(["model_config.proto"], ["src"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    // Maps are printed in the order of their keys, hence ordered maps.
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}
