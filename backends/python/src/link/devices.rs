//! Tensors in the memory of GPUs, between a link and its worker.

use std::sync::Arc;

use nereid_inference::{DeviceBuffer, Tensor};

use super::{Link, State};
use crate::devices::Exported;
use crate::frame::{DeviceTensor, RELEASE_DEVICE, begin_frame, end_frame};
use crate::tensors::on_devices;

/// Set in numbers under which something is lent by itself; calls have small numbers.
const LEASE: u64 = 1 << 63;

/// The first of `count` numbers to lend something under.
pub(super) fn new_leases(next_id: &mut u64, count: u64) -> u64 {
    let first = *next_id;
    *next_id += count;
    LEASE | first
}

impl State {
    /// Lends the worker those of `tensors` that lie in the memory of GPUs, under consecutive numbers,
    /// of which it returns the first.
    pub(super) fn lend_devices<'a>(
        &mut self,
        tensors: impl IntoIterator<Item = &'a Tensor>,
    ) -> u64 {
        let mut there = on_devices(tensors).cloned().peekable();
        let Some(worker) = self.worker.as_mut().filter(|_| there.peek().is_some()) else {
            return 0;
        };
        let there: Vec<DeviceBuffer> = there.collect();
        let first = new_leases(&mut self.next_id, there.len() as u64);
        worker.lent_devices.extend((first..).zip(there));
        first
    }
}

impl Link {
    /// The tensor that a worker describes: its own, or a part of one that was lent to it.
    pub(crate) fn device_tensor(
        self: &Arc<Self>,
        generation: u64,
        told: &DeviceTensor,
    ) -> Option<DeviceBuffer> {
        if told.lease == 0 {
            let link = Arc::downgrade(self);
            let reactor = self.host.reactor.clone();
            let exported = Exported { place: told.place, link, generation, reactor };
            return Some(DeviceBuffer::new(exported, told.len));
        }
        let state = self.lock();
        let lent = state.worker.as_ref()?.lent_devices.get(&told.lease)?;
        lent.slice(told.place.offset, told.len)
    }

    /// Nobody needs a tensor of the worker's any more.
    pub(crate) fn release_device(&self, generation: u64, number: u64) {
        let mut state = self.lock();
        if state.worker.as_ref().is_none_or(|worker| worker.generation != generation) {
            return;
        }
        self.send(&mut state, |out| {
            let start = begin_frame(out, RELEASE_DEVICE, 0, number);
            end_frame(out, start);
        });
    }
}
