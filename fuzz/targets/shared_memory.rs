//! What clients say about shared memory: names, offsets and sizes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{arbitrary, fuzz_target};
use nereid_core::Regions;
use nereid_inference::{DataType, RegionRange, Tensor};

const SIZE: u64 = 5000;

#[derive(Debug, arbitrary::Arbitrary)]
struct Case {
    offset: u64,
    byte_size: u64,
    name: String,
    key: String,
    register: (u64, u64),
    output: Vec<u8>,
}

/// Regions with one that is there, made for this process.
static REGIONS: LazyLock<Regions> = LazyLock::new(|| {
    let key = format!("/nereid_fuzz_{}", std::process::id());
    let path = format!("/dev/shm{key}");
    std::fs::write(&path, vec![0; SIZE as usize]).expect("a place for shared memory");
    let regions = Regions::new(true);
    regions.register("r", &key, 0, SIZE).expect("the region is there");
    // It stays mapped.
    std::fs::remove_file(path).expect("just made");
    regions
});

fuzz_target!(|case: Case| {
    let Case { offset, byte_size, name, key, register, output } = case;
    let range = RegionRange { region: "r".to_owned(), offset, byte_size };
    let inside = byte_size > 0 && offset.checked_add(byte_size).is_some_and(|end| end <= SIZE);
    let input = REGIONS.input(&range);
    assert_eq!(input.is_ok(), inside);
    if let Ok(bytes) = input {
        assert_eq!(bytes.len() as u64, byte_size);
    }
    if let Ok(place) = REGIONS.output(&range) {
        let fits = output.len() as u64 <= byte_size;
        let tensor = Tensor {
            name: "OUT".to_owned(),
            datatype: DataType::Uint8,
            shape: vec![output.len() as i64],
            data: output.into(),
        };
        assert_eq!(place.write(&tensor).is_ok(), fits);
    }
    if name != "r" && REGIONS.register(&name, &key, register.0, register.1).is_ok() {
        let _ = REGIONS.unregister(Some(&name));
    }
});
