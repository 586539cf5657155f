//! The description of [`ModelConfig`] that text and JSON are read and written by.

use std::sync::LazyLock;

use nereid_inference::{Error, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::ModelConfig;

static MODEL_CONFIG: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(bytes)
        .expect("the build wrote valid descriptors")
        .get_message_by_name("inference.ModelConfig")
        .expect("model_config.proto has a ModelConfig")
});

pub(crate) fn model_config() -> MessageDescriptor {
    MODEL_CONFIG.clone()
}

pub(crate) fn to_dynamic(config: &ModelConfig) -> DynamicMessage {
    DynamicMessage::decode(model_config(), config.encode_to_vec().as_slice())
        .expect("both sides come from the same model_config.proto")
}

pub(crate) fn from_dynamic(message: &DynamicMessage) -> Result<ModelConfig> {
    ModelConfig::decode(message.encode_to_vec().as_slice())
        .map_err(|error| Error::internal(format!("unable to convert configuration: {error}")))
}
