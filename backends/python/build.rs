//! Lists the files of the Python worker package for inclusion in the binary.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("worker");
    let mut list = String::from("static WORKER_FILES: &[(&str, &str)] = &[\n");
    for folder in ["", "nereid_worker"] {
        let mut files: Vec<_> = fs::read_dir(root.join(folder))
            .expect("the worker package is part of the source")
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
            .collect();
        files.sort();
        for path in files {
            let name = path.strip_prefix(&root).expect("listed below it").display().to_string();
            writeln!(list, "    ({name:?}, include_str!({:?})),", path.display().to_string())
                .expect("writing to a string");
        }
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    list.push_str("];\n");
    let out = env::var("OUT_DIR").expect("set by cargo");
    fs::write(Path::new(&out).join("worker_files.rs"), list).expect("OUT_DIR can be written");
}
