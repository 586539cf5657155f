//! `/v2/systemsharedmemory/…` and `/v2/cudasharedmemory/…`: regions registered, listed and forgotten.

use hyper::body::Incoming;
use nereid_core::{CudaStatus, RegionStatus};
use nereid_inference::{Error, Result};
use nereid_protocol::{
    CudaRegisterRequest, RegionRow, cuda_region_status, parse_cuda_register_request,
    parse_register_request, region_status,
};

use crate::app::App;
use crate::body::receive;
use crate::reply::{Reply, done_reply, json_error, json_reply};
use crate::routes::RegionAction;

pub(crate) async fn shared_memory(
    app: &App,
    action: RegionAction,
    region: Option<&str>,
    body: &mut Incoming,
) -> Reply {
    let done = match action {
        RegionAction::Status => return status(app, region),
        RegionAction::Unregister => app.regions.unregister(region),
        RegionAction::Register => match receive(body, 0, app).await {
            Ok(body) => register(app, region, &body),
            Err(reply) => return reply,
        },
    };
    done_reply(done)
}

pub(crate) async fn cuda_shared_memory(
    app: &App,
    action: RegionAction,
    region: Option<&str>,
    body: &mut Incoming,
) -> Reply {
    let done = match action {
        RegionAction::Status => return cuda_status(app, region),
        RegionAction::Unregister => app.regions.unregister_cuda(region),
        // Where there are none, what is asked for does not matter.
        RegionAction::Register if !app.regions.has_cuda() => {
            register_cuda(app, region, &CudaRegisterRequest::default())
        }
        RegionAction::Register => match receive(body, 0, app).await {
            Ok(body) => parse_cuda_register_request(&body)
                .and_then(|request| register_cuda(app, region, &request)),
            Err(reply) => return reply,
        },
    };
    done_reply(done)
}

fn register_cuda(app: &App, region: Option<&str>, request: &CudaRegisterRequest) -> Result<()> {
    let name = region.ok_or_else(|| {
        Error::invalid_arg("'region name' is necessary to register cuda shared memory region")
    })?;
    let CudaRegisterRequest { handle, device, byte_size } = request;
    app.regions.register_cuda(name, handle, *device, *byte_size)
}

fn cuda_status(app: &App, region: Option<&str>) -> Reply {
    let row = |region: &CudaStatus| (region.name.clone(), region.device, region.byte_size);
    match app.regions.cuda_status(region) {
        Ok(regions) => json_reply(cuda_region_status(regions.iter().map(row))),
        Err(error) => json_error(&error),
    }
}

fn register(app: &App, region: Option<&str>, body: &[u8]) -> Result<()> {
    let name = region.ok_or_else(|| {
        Error::invalid_arg("'region name' is necessary to register system shared memory region")
    })?;
    let request = parse_register_request(body)?;
    app.regions.register(name, &request.key, request.offset, request.byte_size)
}

fn status(app: &App, region: Option<&str>) -> Reply {
    match app.regions.status(region) {
        Ok(regions) => json_reply(region_status(&regions.iter().map(row).collect::<Vec<_>>())),
        Err(error) => json_error(&error),
    }
}

fn row(region: &RegionStatus) -> RegionRow<'_> {
    let RegionStatus { name, key, offset, byte_size } = region;
    RegionRow { name, key, offset: *offset, byte_size: *byte_size }
}
