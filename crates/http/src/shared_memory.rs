//! `/v2/systemsharedmemory/…` and `/v2/cudasharedmemory/…`: regions registered, listed and forgotten.

use hyper::body::Incoming;
use nereid_core::RegionStatus;
use nereid_inference::{Error, Result};
use nereid_protocol::{RegionRow, parse_register_request, region_status};

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

/// There are no CUDA regions, and none can be made; what is not there need not be forgotten.
pub(crate) fn cuda_shared_memory(app: &App, action: RegionAction, region: Option<&str>) -> Reply {
    let done = match action {
        RegionAction::Status => {
            app.regions.no_cuda_region(region).map(|()| json_reply(b"[]".to_vec()))
        }
        RegionAction::Unregister => Ok(done_reply(Ok(()))),
        RegionAction::Register => Err(match region {
            Some(region) => app.regions.refuse_cuda(region),
            None => Error::invalid_arg(
                "'region name' is necessary to register cuda shared memory region",
            ),
        }),
    };
    done.unwrap_or_else(|error| json_error(&error))
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
