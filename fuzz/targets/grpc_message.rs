//! Messages of gRPC.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nereid_fuzz::config;

fuzz_target!(|message: &[u8]| {
    let _ = nereid_grpc::decode_message(&config(), Bytes::copy_from_slice(message));
});
