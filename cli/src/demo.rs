//! `nereid demo`: from nothing to the number plates on a photo.
//!
//! Makes the Python environment that the example needs, serves its repository in this process, and
//! lets the example's own client send a photo.

mod packages;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser};

use crate::flags::ServeFlags;
use crate::serve;

/// Where the example lies, from the root of the sources.
const EXAMPLE: &str = "examples/plates";

/// Later wheels tell their maker that they are used.
const ONNX_RUNTIME: &str = "onnxruntime==1.24.*";

#[derive(Args, Debug)]
pub(crate) struct DemoFlags {
    /// A photo (JPEG or PNG), or a folder of photos, instead of the example's.
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// Stop when the photo has been answered.
    #[arg(long)]
    once: bool,
    /// Where to write the photo with the plates drawn in [default: the current folder].
    #[arg(long, value_name = "FOLDER", default_value = ".", hide_default_value = true)]
    annotated: PathBuf,
    /// The folder `examples/plates` [default: looked for here and around this program].
    #[arg(long, value_name = "FOLDER")]
    example: Option<PathBuf>,
    /// Port for HTTP; gRPC and metrics take the two after it.
    #[arg(long, default_value_t = 8000)]
    http_port: u16,
    /// The engine of the nets: `onnxruntime` is fetched; `rten` is in this program, half as fast.
    #[arg(long, default_value = "onnxruntime", value_parser = ["onnxruntime", "rten"])]
    engine: String,
}

/// `serve`'s flags, parsed as if they had been typed.
#[derive(Parser)]
struct Serving {
    #[command(flatten)]
    flags: ServeFlags,
}

pub(crate) fn run(flags: DemoFlags) -> ExitCode {
    match prepare(flags) {
        Ok(demo) => demo.run(),
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

struct Demo {
    flags: DemoFlags,
    example: PathBuf,
    photo: PathBuf,
    python: PathBuf,
}

fn prepare(flags: DemoFlags) -> Result<Demo, String> {
    let example = find_example(flags.example.as_deref())?;
    let photo = flags.image.clone().unwrap_or_else(|| example.join("photo.jpg"));
    if !photo.exists() {
        return Err(format!("there is no photo {}", photo.display()));
    }
    if !flags.annotated.is_dir() {
        return Err(format!("there is no folder {}", flags.annotated.display()));
    }
    let clock = Instant::now();
    say("Python packages");
    let extra = (flags.engine == "onnxruntime").then_some(ONNX_RUNTIME);
    let python = packages::python_with(&example.join("requirements.txt"), extra)?;
    println!("   {} ({:.1} s)", python.display(), clock.elapsed().as_secs_f64());
    Ok(Demo { flags, example, photo, python })
}

impl Demo {
    fn run(self) -> ExitCode {
        let repository = self.example.join("models");
        say(&format!("nereid serve --model-repository {}", repository.display()));
        let port = self.flags.http_port;
        let mut arguments = vec![
            "demo".to_owned(),
            format!("--model-repository={}", repository.display()),
            format!("--backend-config=python,python={}", self.python.display()),
            format!("--backend-config=onnxruntime,engine={}", self.flags.engine),
            "--http-address=127.0.0.1".to_owned(),
            "--grpc-address=127.0.0.1".to_owned(),
            format!("--http-port={port}"),
            format!("--grpc-port={}", port.saturating_add(1)),
            format!("--metrics-port={}", port.saturating_add(2)),
            // Nobody else is to ask a server that stops at once.
            format!("--allow-grpc={}", !self.flags.once),
            format!("--allow-metrics={}", !self.flags.once),
            "--log-info=false".to_owned(),
        ];
        if self.flags.engine == "onnxruntime"
            && let Some(library) = packages::onnxruntime_of(&self.python)
        {
            arguments.push(format!("--backend-config=onnxruntime,library={}", library.display()));
        }
        let serving = match Serving::try_parse_from(arguments) {
            Ok(serving) => serving,
            Err(error) => error.exit(),
        };
        let answered = Arc::new(AtomicBool::new(false));
        let guide = {
            let answered = answered.clone();
            let once = self.flags.once;
            move || {
                let shown = self.show();
                answered.store(shown, Ordering::Relaxed);
                if once || !shown {
                    let me = rustix::process::getpid();
                    // As if somebody had pressed Ctrl-C: requests end, workers are waited for.
                    let _ = rustix::process::kill_process(me, rustix::process::Signal::TERM);
                }
            }
        };
        std::thread::spawn(guide);
        let served = serve::run(&serving.flags);
        if answered.load(Ordering::Relaxed) { served } else { ExitCode::FAILURE }
    }

    /// Waits for the server, sends the photo, says what to try next.
    fn show(&self) -> bool {
        let clock = Instant::now();
        let port = self.flags.http_port;
        while !is_ready(port) {
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("   ready ({:.1} s)", clock.elapsed().as_secs_f64());
        say(&format!("plate_recognition of {}", self.photo.display()));
        let client = self.example.join("client.py");
        let sent = Command::new(&self.python)
            .arg(&client)
            .arg(format!("--url=127.0.0.1:{port}"))
            .arg("--annotated")
            .arg(&self.flags.annotated)
            .arg(&self.photo)
            .status();
        let answered = match sent {
            Ok(status) => status.success(),
            Err(error) => {
                eprintln!("error: {}: {error}", self.python.display());
                false
            }
        };
        if answered && !self.flags.once {
            say("the server keeps running; Ctrl-C ends it. Try next:");
            let python = self.python.display();
            println!("   {python} {} --url=127.0.0.1:{port} YOUR-PHOTO.jpg", client.display());
            println!("   curl -s 127.0.0.1:{port}/v2/models/plate_recognition");
            println!("   curl -s 127.0.0.1:{port}/v2/models/detector/stats");
            println!(
                "   {}: how it works, and how to put your own nets in",
                self.example.join("README.md").display()
            );
        }
        answered
    }
}

/// The example's folder: as given, in a folder above the current one, or above this program.
fn find_example(given: Option<&Path>) -> Result<PathBuf, String> {
    let holds = |folder: &Path| folder.join("models/plate_recognition").is_dir();
    if let Some(folder) = given {
        let complete = holds(folder);
        let folder = folder.to_path_buf();
        return if complete {
            Ok(folder)
        } else {
            Err(format!("{} has no models/plate_recognition", folder.display()))
        };
    }
    let around = [std::env::current_dir(), std::env::current_exe()];
    let mut candidates =
        around.iter().flatten().flat_map(|start| start.ancestors()).map(|up| up.join(EXAMPLE));
    candidates.find(|folder| holds(folder)).ok_or_else(|| {
        format!("{EXAMPLE} is neither here nor around this program; name it with --example=FOLDER")
    })
}

fn say(what: &str) {
    println!("== {what}");
}

fn is_ready(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(
            b"GET /v2/health/ready HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n",
        )?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<_, std::io::Error>(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
