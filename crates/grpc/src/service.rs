//! The inference service: one method for each RPC.

use std::sync::Arc;

use hyper::header::HeaderMap;
use nereid_arena::Arena;
use nereid_backend::Pulse;
use nereid_core::{Lifecycle, ModelVersion, Regions, Server};
use nereid_frontend::Forward;
use nereid_inference::{Error, Parameters};
use nereid_logging::Log;
use nereid_protocol::parse_version;
use nereid_trace::Tracer;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::infer::infer;
use crate::parameters::decode_binary;
use crate::proto::grpc_inference_service_server::GrpcInferenceService;
use crate::stream::{Answers, stream};
use crate::trace::Beginning;
use crate::{describe, logging, proto, repository, shared_memory, status::status, trace};

type Reply<T> = Result<Response<T>, Status>;

/// What every RPC works with.
#[derive(Clone)]
pub struct App {
    pub server: Arc<Server>,
    pub lifecycle: Arc<Lifecycle>,
    pub regions: Arc<Regions>,
    /// Large messages are received here, where workers can see them too.
    pub arena: Arena,
    /// Metadata that models are told.
    pub forward: Option<Arc<Forward>>,
    pub pulse: Pulse,
    pub log: Log,
    pub tracer: Tracer,
}

impl App {
    /// The metadata that the model is to be told.
    pub(crate) fn forwarded(&self, metadata: &HeaderMap) -> Result<Parameters, Error> {
        let mut parameters = Parameters::new();
        if let Some(forward) = &self.forward {
            forward.add(metadata, &mut parameters)?;
            parameters.iter_mut().for_each(decode_binary);
        }
        Ok(parameters)
    }
}

pub(crate) struct InferenceService {
    app: App,
    /// Becomes true when no more requests are to be read.
    stopping: watch::Receiver<bool>,
}

impl InferenceService {
    pub(crate) fn new(app: App, stopping: watch::Receiver<bool>) -> Self {
        Self { app, stopping }
    }

    async fn model(
        &self,
        name: &str,
        version: &str,
    ) -> Result<(Arc<ModelVersion>, Option<i64>), Error> {
        let version = parse_version(version)?;
        Ok((self.app.lifecycle.model(name, version).await?, version))
    }
}

fn reply<T>(answer: Result<T, Error>) -> Reply<T> {
    answer.map(Response::new).map_err(|error| status(&error))
}

#[async_trait]
impl GrpcInferenceService for InferenceService {
    type ModelStreamInferStream = Answers;

    async fn server_live(
        &self,
        _: Request<proto::ServerLiveRequest>,
    ) -> Reply<proto::ServerLiveResponse> {
        let live = self.app.server.is_live();
        reply(Ok(proto::ServerLiveResponse { live }))
    }

    async fn server_ready(
        &self,
        _: Request<proto::ServerReadyRequest>,
    ) -> Reply<proto::ServerReadyResponse> {
        let ready = self.app.server.is_ready();
        reply(Ok(proto::ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Reply<proto::ModelReadyResponse> {
        let proto::ModelReadyRequest { name, version } = request.into_inner();
        let ready = match self.model(&name, &version).await {
            Ok((_, version)) => self.app.server.is_model_ready(&name, version).await,
            Err(error) => Err(error),
        };
        reply(ready.map(|ready| proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<proto::ServerMetadataRequest>,
    ) -> Reply<proto::ServerMetadataResponse> {
        let metadata = self.app.server.metadata();
        reply(Ok(proto::ServerMetadataResponse {
            name: metadata.name,
            version: metadata.version.to_owned(),
            extensions: metadata.extensions.iter().map(|&name| name.to_owned()).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Reply<proto::ModelMetadataResponse> {
        let proto::ModelMetadataRequest { name, version } = request.into_inner();
        reply(self.model(&name, &version).await.map(|(model, version)| {
            let versions = self.app.server.ready_versions(&name, version);
            describe::metadata(&model.config, &versions)
        }))
    }

    async fn model_config(
        &self,
        request: Request<proto::ModelConfigRequest>,
    ) -> Reply<proto::ModelConfigResponse> {
        let proto::ModelConfigRequest { name, version } = request.into_inner();
        reply(
            self.model(&name, &version).await.map(|(model, _)| proto::ModelConfigResponse {
                config: Some((*model.config).clone()),
            }),
        )
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Reply<proto::ModelStatisticsResponse> {
        let proto::ModelStatisticsRequest { name, version } = request.into_inner();
        let name = (!name.is_empty()).then_some(name.as_str());
        let models =
            parse_version(&version).and_then(|version| self.app.server.statistics(name, version));
        reply(models.map(|models| proto::ModelStatisticsResponse {
            model_stats: models.into_iter().map(describe::statistics).collect(),
        }))
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Reply<proto::ModelInferResponse> {
        let metadata = request.metadata().as_ref();
        let forwarded = self.app.forwarded(metadata);
        let beginning = Beginning::of(&self.app, metadata);
        reply(infer(&self.app, request.into_inner(), forwarded, beginning).await)
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<proto::ModelInferRequest>>,
    ) -> Reply<Answers> {
        let wish = request.metadata().get("triton_grpc_error");
        let close_on_error = wish.is_some_and(|wish| wish.as_bytes() == b"true");
        let (app, stopping) = (self.app.clone(), self.stopping.clone());
        let forwarded = self.app.forwarded(request.metadata().as_ref());
        let parent = trace::parent(request.metadata().as_ref()).map(str::to_owned);
        let inbound = request.into_inner();
        Ok(Response::new(stream(app, stopping, inbound, forwarded, close_on_error, parent)))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Reply<proto::RepositoryIndexResponse> {
        reply(repository::index(&self.app, request.into_inner()).await)
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Reply<proto::RepositoryModelLoadResponse> {
        let loaded = repository::load(&self.app, request.into_inner()).await;
        reply(loaded.map(|()| proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Reply<proto::RepositoryModelUnloadResponse> {
        let unloaded = repository::unload(&self.app, request.into_inner()).await;
        reply(unloaded.map(|()| proto::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<proto::SystemSharedMemoryStatusRequest>,
    ) -> Reply<proto::SystemSharedMemoryStatusResponse> {
        reply(shared_memory::status(&self.app.regions, &request.into_inner().name))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<proto::SystemSharedMemoryRegisterRequest>,
    ) -> Reply<proto::SystemSharedMemoryRegisterResponse> {
        let registered = shared_memory::register(&self.app.regions, request.into_inner());
        reply(registered.map(|()| proto::SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<proto::SystemSharedMemoryUnregisterRequest>,
    ) -> Reply<proto::SystemSharedMemoryUnregisterResponse> {
        let name = request.into_inner().name;
        let forgotten = self.app.regions.unregister(shared_memory::named(&name));
        reply(forgotten.map(|()| proto::SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<proto::CudaSharedMemoryStatusRequest>,
    ) -> Reply<proto::CudaSharedMemoryStatusResponse> {
        reply(shared_memory::cuda_status(&self.app.regions, &request.into_inner().name))
    }

    async fn cuda_shared_memory_register(
        &self,
        request: Request<proto::CudaSharedMemoryRegisterRequest>,
    ) -> Reply<proto::CudaSharedMemoryRegisterResponse> {
        let request = request.into_inner();
        let proto::CudaSharedMemoryRegisterRequest { name, raw_handle, device_id, byte_size } =
            request;
        let registered = self.app.regions.register_cuda(&name, &raw_handle, device_id, byte_size);
        reply(registered.map(|()| proto::CudaSharedMemoryRegisterResponse {}))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        request: Request<proto::CudaSharedMemoryUnregisterRequest>,
    ) -> Reply<proto::CudaSharedMemoryUnregisterResponse> {
        let name = request.into_inner().name;
        let forgotten = self.app.regions.unregister_cuda(shared_memory::named(&name));
        reply(forgotten.map(|()| proto::CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(
        &self,
        request: Request<proto::TraceSettingRequest>,
    ) -> Reply<proto::TraceSettingResponse> {
        reply(trace::settings(&self.app, request.into_inner()))
    }

    async fn log_settings(
        &self,
        request: Request<proto::LogSettingsRequest>,
    ) -> Reply<proto::LogSettingsResponse> {
        reply(logging::settings(&self.app.log, request.get_ref()))
    }
}
