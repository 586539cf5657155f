//! Keeps the worker of one instance alive: starts it, reads its answers, notices its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nereid_inference::{Buffer, Error, Parameter, Response, Result, Tensor};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::custom_metrics::CustomMetrics;
use crate::executing::Returned;
use crate::frame::{
    Block, Broken, CALL, CANCEL_CALL, CONTROL, EXECUTED, FAILED, FINALIZED, Frame, KEEP, LOG,
    MAPPED, METRIC, READY, READY_STATE, RELEASE_ANSWERS, RESPONSE, TensorData, WATCH, read_block,
    read_frame, read_numbers,
};
use crate::launch::{Launch, Launched};
use crate::limits::EXIT_LIMIT;
use crate::link::Link;
use crate::{calls, control, extras, limits};

/// A worker that lived this long, or has executed a batch, is started again at once when it dies.
const STEADY: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// TRITONSERVER_REQUEST_RELEASE_RESCHEDULE.
const RESCHEDULE: u64 = 2;

/// Runs workers for `link` until the instance is dropped. The outcome of the first start is sent
/// to `report`, and if that fails there is no second one.
pub(crate) async fn supervise(link: Arc<Link>, launch: Launch, report: mpsc::Sender<Result<()>>) {
    let mut report = Some(report);
    let mut back_off = Duration::ZERO;
    for generation in 1.. {
        let started = Instant::now();
        let mut run = Run {
            link: &link,
            generation,
            report: &mut report,
            ready: false,
            useful: false,
            metrics: CustomMetrics::default(),
            orphans: None,
        };
        let error = run.until_end(&launch).await;
        let (was_ready, useful, orphans) = (run.ready, run.useful, run.orphans);
        let orphans = async {
            if let Some(orphans) = orphans {
                let _ = orphans.await;
            }
        };
        if link.is_stopping() {
            orphans.await;
            return link.worker_ended(&Error::unavailable("the model was unloaded"), false);
        }
        if let Some(report) = report.take() {
            link.worker_ended(&error, false);
            orphans.await;
            let _ = report.send(Err(error));
            return;
        }
        tracing::error!("{}: {}", link.name, error.message());
        let steady = was_ready && (useful || started.elapsed() >= STEADY);
        back_off = if steady { Duration::ZERO } else { longer(back_off) };
        let at_once = was_ready && back_off <= Duration::from_millis(200);
        link.worker_ended(&error, at_once);
        orphans.await;
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            () = link.stopped.notified() => return,
        }
        tracing::info!("{}: starting its worker again", link.name);
    }
}

fn longer(back_off: Duration) -> Duration {
    (back_off * 2).clamp(Duration::from_millis(50), LONGEST_BACK_OFF)
}

/// One life of a worker.
struct Run<'a> {
    link: &'a Arc<Link>,
    generation: u64,
    report: &'a mut Option<mpsc::Sender<Result<()>>>,
    ready: bool,
    /// It has executed a batch.
    useful: bool,
    /// Its model's own.
    metrics: CustomMetrics,
    /// Ends what it has left behind.
    orphans: Option<JoinHandle<()>>,
}

/// Why reading from a worker came to an end.
enum End {
    Closed,
    Broken,
    /// It said itself why it cannot run.
    Failed(Error),
    /// It did not do in time what is said here.
    Late(&'static str, Option<Duration>),
    /// The server is stopping and does not wait for it.
    GivenUp,
}

impl Run<'_> {
    async fn until_end(&mut self, launch: &Launch) -> Error {
        let launched = match launch.start() {
            Ok(launched) => launched,
            Err(error) => {
                return Error::internal(format!(
                    "failed to start the Python interpreter '{}': {error}",
                    launch.python().display()
                ));
            }
        };
        let Launched { mut child, requests, answers, span, init } = launched;
        let logs = self.follow_output(&mut child);
        let group = limits::pid(&child);
        if !self.link.start_worker(self.generation, requests.clone(), span, &init) {
            return Error::unavailable("the model was unloaded");
        }
        let link = self.link.clone();
        let end = tokio::select! {
            end = self.read(&answers) => end,
            () = write(&link, &requests) => End::Closed,
            () = limits::late_end(&link) => End::Closed,
            () = limits::late_start(&link, launch.options.initialize_limit) => {
                End::Late("become ready", launch.options.initialize_limit)
            }
            () = limits::late_execute(&link, launch.options.execute_limit, launch.options.threads) => {
                End::Late("return from 'execute'", launch.options.execute_limit)
            }
            () = link.given_up.notified() => End::GivenUp,
            () = limits::exited(&mut child) => End::Closed,
        };
        let status = match end {
            End::Late(..) => limits::abort(&mut child).await,
            End::GivenUp => limits::kill(&mut child).await,
            _ => limits::end(&mut child).await,
        };
        self.orphans = group.map(|group| tokio::spawn(limits::end_orphans(group)));
        let _ = tokio::time::timeout(EXIT_LIMIT, logs).await;
        let fate = match end {
            End::Failed(error) => return error,
            End::GivenUp => return Error::unavailable("the server is stopping"),
            End::Broken => "sent a frame that cannot be read".to_owned(),
            End::Closed => describe(status),
            End::Late(what, limit) => {
                let limit = limit.unwrap_or_default().as_secs_f64();
                format!("did not {what} within {limit} s and was ended")
            }
        };
        self.death(&fate)
    }

    /// What clients and the log are told about the end of a worker.
    fn death(&self, fate: &str) -> Error {
        let mut message =
            format!("the Python process of model instance '{}' {fate}", self.link.name);
        let words = self.link.take_last_words();
        if !words.is_empty() {
            message.push_str("; its last output:\n");
            message.push_str(&words.join("\n"));
        }
        Error::internal(message)
    }

    /// Passes what the model prints on to the log.
    fn follow_output(&self, child: &mut Child) -> JoinHandle<()> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let link = self.link.clone();
        tokio::spawn(async move {
            tokio::join!(follow(&link, stdout, false), follow(&link, stderr, true));
        })
    }

    /// Reads frames until the pipe is closed. One read for each time it becomes readable: to ask
    /// once more only to hear that it is empty would cost as much as the read itself.
    async fn read(&mut self, answers: &AsyncFd<OwnedFd>) -> End {
        let mut buffer = vec![0; 256 << 10];
        let mut filled = 0;
        loop {
            let Ok(mut ready) = answers.readable().await else { return End::Closed };
            match rustix::io::read(answers.get_ref(), &mut buffer[filled..]) {
                Ok(0) => return End::Closed,
                Ok(read) => {
                    filled += read;
                    if filled < buffer.len() {
                        ready.clear_ready();
                    }
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return End::Closed,
            }
            drop(ready);
            self.link.host.pulse.beat();
            match self.handle_all(&buffer[..filled]) {
                Ok(used) => {
                    buffer.copy_within(used..filled, 0);
                    filled -= used;
                }
                Err(end) => return end,
            }
            if filled == buffer.len() {
                buffer.resize(buffer.len() * 2, 0);
            }
        }
    }

    /// Handles every whole frame; how many bytes they took.
    fn handle_all(&mut self, input: &[u8]) -> Result<usize, End> {
        let mut used = 0;
        while let Some(frame) = read_frame(&input[used..]).map_err(|Broken| End::Broken)? {
            self.handle(&frame)?;
            used += frame.len;
        }
        Ok(used)
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        match frame.kind {
            EXECUTED => self.executed(frame),
            CALL => self.called(frame),
            RESPONSE => self.responded(frame),
            RELEASE_ANSWERS => {
                self.link.release_answers(read_numbers(frame.body));
                Ok(())
            }
            READY => {
                self.ready = true;
                self.link.worker_ready(frame.count == 1);
                if let Some(report) = self.report.take() {
                    let _ = report.send(Ok(()));
                }
                Ok(())
            }
            FAILED => self.failed(frame),
            LOG => self.logged(frame),
            CONTROL => self.asked(frame),
            METRIC => self.measured(frame),
            KEEP => {
                let numbers: Vec<u64> = read_numbers(frame.body).collect();
                self.link.keep_inputs(frame.id, &numbers);
                Ok(())
            }
            MAPPED => {
                self.link.region_mapped(frame.id, frame.count == 1);
                Ok(())
            }
            READY_STATE => {
                self.link.ready_answered(frame.id, frame.count == 1);
                Ok(())
            }
            WATCH => {
                self.link.watch(frame.id, frame.count);
                Ok(())
            }
            CANCEL_CALL => {
                self.link.cancel_call(frame.id);
                Ok(())
            }
            FINALIZED => Err(End::Closed),
            _ => Err(End::Broken),
        }
    }

    /// `execute` has returned: eighth stop of its requests.
    fn executed(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        self.useful = true;
        let mut responses = Vec::with_capacity(frame.count);
        let mut at = 0;
        for _ in 0..frame.count {
            let (block, end) = read_block(frame.body, at).map_err(|Broken| End::Broken)?;
            responses.push(self.returned(&block, frame.body));
            at = end;
        }
        let Some(mut executing) = self.link.take_executing(frame.id) else { return Ok(()) };
        if frame.count > 0 {
            executing.answer_all(responses);
        } else if !frame.body.is_empty() {
            let (block, _) = read_block(frame.body, 0).map_err(|Broken| End::Broken)?;
            for index in extras::indices(&extras::parse(block.extras), "reschedule") {
                executing.reschedule(index);
            }
        }
        let batch = executing.give_back_place();
        if !executing.is_over() {
            self.link.put_executing(frame.id, executing);
        }
        drop(batch);
        Ok(())
    }

    fn responded(&self, frame: &Frame<'_>) -> Result<(), End> {
        let (block, _) = read_block(frame.body, 0).map_err(|Broken| End::Broken)?;
        let extras = extras::parse(block.extras);
        let index = extras["request"].as_u64().unwrap_or_default() as usize;
        let last = extras["last"].as_bool().unwrap_or_default();
        let nothing = extras["nothing"].as_bool().unwrap_or_default();
        // While its inputs can still be found: they may be among the outputs.
        let response = (!nothing).then(|| self.response(&block, frame.body));
        let Some(mut executing) = self.link.take_executing(frame.id) else { return Ok(()) };
        executing.respond(index, response, last);
        if !executing.is_over() {
            self.link.put_executing(frame.id, executing);
        }
        Ok(())
    }

    fn called(&self, frame: &Frame<'_>) -> Result<(), End> {
        let on_behalf = read_numbers(frame.body).next();
        let (block, _) = read_block(frame.body, 8).map_err(|Broken| End::Broken)?;
        let inputs = self.tensors(&block, frame.body);
        let call = calls::Call { generation: self.generation, id: frame.id, on_behalf };
        calls::start(self.link, call, block.extras, inputs);
        Ok(())
    }

    fn asked(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        let (block, _) = read_block(frame.body, 0).map_err(|Broken| End::Broken)?;
        let asked = extras::parse(block.extras);
        if asked["do"].as_str().is_some_and(|what| what.starts_with("metric")) {
            let answer = self.metrics.ask(&asked, &self.link.host.metrics).map(|value| {
                let value = value.map(|value| ("value".to_owned(), Parameter::Double(value)));
                Response { parameters: value.into_iter().collect(), ..Response::default() }
            });
            self.link.answer_call(self.generation, frame.id, answer, None);
            return Ok(());
        }
        let files = self.tensors(&block, frame.body);
        control::start(self.link, self.generation, frame.id, &asked, files);
        Ok(())
    }

    fn measured(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        let (block, _) = read_block(frame.body, 0).map_err(|Broken| End::Broken)?;
        if let Err(error) = self.metrics.change(&extras::parse(block.extras)) {
            tracing::warn!("{}: {}", self.link.name, error.message());
        }
        Ok(())
    }

    fn failed(&self, frame: &Frame<'_>) -> Result<(), End> {
        let (block, _) = read_block(frame.body, 0).map_err(|Broken| End::Broken)?;
        let error = extras::error_in(&extras::parse(block.extras))
            .unwrap_or_else(|| Error::internal("the model gave no reason"));
        if !self.ready {
            return Err(End::Failed(error));
        }
        tracing::error!("{}: {}", self.link.name, error.message());
        if let Some(executing) = self.link.take_executing(frame.id) {
            executing.fail(&Error::new(
                error.code(),
                format!(
                    "Failed to process the request(s) for model '{}', message: {}",
                    self.link.name,
                    error.message()
                ),
            ));
        }
        Ok(())
    }

    fn logged(&self, frame: &Frame<'_>) -> Result<(), End> {
        let (block, _) = read_block(frame.body, 0).map_err(|Broken| End::Broken)?;
        let extras = extras::parse(block.extras);
        let message = extras["message"].as_str().unwrap_or_default();
        match extras["level"].as_str() {
            Some("ERROR") => tracing::error!("{}: {message}", self.link.name),
            Some("WARNING") => tracing::warn!("{}: {message}", self.link.name),
            Some("VERBOSE") => tracing::debug!("{}: {message}", self.link.name),
            _ => tracing::info!("{}: {message}", self.link.name),
        }
        Ok(())
    }

    /// What `execute` has returned for one request.
    fn returned(&self, block: &Block<'_>, body: &[u8]) -> Returned {
        if !block.extras.is_empty()
            && let Some(flags) = extras::parse(block.extras)["none"].as_u64()
        {
            return if flags == RESCHEDULE { Returned::Again } else { Returned::Nothing };
        }
        Returned::Response(self.response(block, body))
    }

    fn response(&self, block: &Block<'_>, body: &[u8]) -> Result<Response> {
        if block.extras.is_empty() {
            return self.outputs(block, body).map(Response::new);
        }
        let extras = extras::parse(block.extras);
        if let Some(error) = extras::error_in(&extras) {
            return Err(error);
        }
        let mut response = Response::new(self.outputs(block, body)?);
        response.parameters = extras::parameters_of(&extras["parameters"]);
        Ok(response)
    }

    /// The tensors of a response, without those that the model's configuration does not know.
    fn outputs(&self, block: &Block<'_>, body: &[u8]) -> Result<Vec<Tensor>> {
        let mut outputs = self.tensors(block, body)?;
        outputs.retain(|output| self.link.knows(&output.name));
        Ok(outputs)
    }

    fn tensors(&self, block: &Block<'_>, body: &[u8]) -> Result<Vec<Tensor>> {
        let tensor = |(meta, data): &(crate::frame::TensorMeta<'_>, TensorData)| {
            let data = self.data(data, body).ok_or_else(|| {
                Error::internal(format!(
                    "tensor '{}' lies in memory that its model does not own",
                    meta.name
                ))
            })?;
            Ok(Tensor {
                name: meta.name.to_owned(),
                datatype: meta.datatype,
                shape: meta.shape.clone(),
                data,
            })
        };
        block.tensors.iter().map(tensor).collect()
    }

    fn data(&self, data: &TensorData, body: &[u8]) -> Option<Buffer> {
        Some(match data {
            TensorData::Inline(range) => Buffer::One(Bytes::copy_from_slice(&body[range.clone()])),
            TensorData::Shared { location, len } => {
                Buffer::One(self.link.tensor_at(*location, *len)?)
            }
            TensorData::Device(told) => {
                Buffer::Device(self.link.device_tensor(self.generation, told)?)
            }
        })
    }
}

/// Writes what did not fit into the pipe, whenever there is room.
async fn write(link: &Link, requests: &AsyncFd<OwnedFd>) {
    loop {
        link.unsent.notified().await;
        while !link.write_unsent() {
            let Ok(mut ready) = requests.writable().await else { return };
            ready.clear_ready();
        }
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(9)) => "was ended by signal 9, as when memory runs out".to_owned(),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("ended ({error})"),
    }
}

async fn follow(link: &Link, output: Option<impl AsyncRead + Unpin>, errors: bool) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if errors {
            tracing::warn!("{}: {text}", link.name);
            link.remember(text);
        } else {
            tracing::info!("{}: {text}", link.name);
        }
    }
}
