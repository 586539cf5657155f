//! What the server tells about itself and its models, as messages.

use nereid_core::{
    BatchStatistics, Duration, IndexEntry, InferStatistics, ModelStatistics, ResponseStatistics,
};
use nereid_model_config::ModelConfig;
use nereid_protocol::{TensorDescription, describe_model};

use crate::proto;
use crate::proto::model_metadata_response::TensorMetadata;
use crate::proto::repository_index_response::ModelIndex;

pub(crate) fn metadata(config: &ModelConfig, versions: &[i64]) -> proto::ModelMetadataResponse {
    let model = describe_model(config);
    let tensors = |described: Vec<TensorDescription<'_>>| {
        let message = |tensor: TensorDescription<'_>| TensorMetadata {
            name: tensor.name.to_owned(),
            datatype: tensor.datatype.to_owned(),
            shape: tensor.shape,
        };
        described.into_iter().map(message).collect()
    };
    proto::ModelMetadataResponse {
        name: model.name.to_owned(),
        versions: versions.iter().map(i64::to_string).collect(),
        platform: model.platform.to_owned(),
        inputs: tensors(model.inputs),
        outputs: tensors(model.outputs),
    }
}

pub(crate) fn index_entry(entry: IndexEntry) -> ModelIndex {
    ModelIndex {
        name: entry.name,
        version: entry.version.map_or_else(String::new, |version| version.to_string()),
        state: entry.state.to_owned(),
        reason: entry.reason,
    }
}

pub(crate) fn statistics(model: ModelStatistics) -> proto::ModelStatistics {
    proto::ModelStatistics {
        name: model.name,
        version: model.version.to_string(),
        last_inference: model.last_inference_ms,
        inference_count: model.inference_count,
        execution_count: model.execution_count,
        inference_stats: Some(inference(&model.inference)),
        batch_stats: model.batches.iter().map(batch).collect(),
        response_stats: model
            .responses
            .iter()
            .enumerate()
            .map(|(index, times)| (index.to_string(), response(times)))
            .collect(),
        ..proto::ModelStatistics::default()
    }
}

fn inference(times: &InferStatistics) -> proto::InferStatistics {
    proto::InferStatistics {
        success: duration(times.success),
        fail: duration(times.fail),
        queue: duration(times.queue),
        compute_input: duration(times.compute_input),
        compute_infer: duration(times.compute_infer),
        compute_output: duration(times.compute_output),
        cache_hit: duration(times.cache_hit),
        cache_miss: duration(times.cache_miss),
    }
}

fn batch(batch: &BatchStatistics) -> proto::InferBatchStatistics {
    proto::InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: duration(batch.compute_input),
        compute_infer: duration(batch.compute_infer),
        compute_output: duration(batch.compute_output),
    }
}

fn response(times: &ResponseStatistics) -> proto::InferResponseStatistics {
    proto::InferResponseStatistics {
        compute_infer: duration(times.compute_infer),
        compute_output: duration(times.compute_output),
        success: duration(times.success),
        fail: duration(times.fail),
        empty_response: duration(times.empty_response),
        cancel: duration(times.cancel),
    }
}

fn duration(Duration { count, ns }: Duration) -> Option<proto::StatisticDuration> {
    Some(proto::StatisticDuration { count, ns })
}
