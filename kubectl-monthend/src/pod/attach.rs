//! `load`: sends a folder to a pod, shows the pod's log lines, and takes the rejected lines back.
//!
//! Both sides can stop at any time, so no part waits for a stream that nobody serves any more: the
//! end of the connection ends them all.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kube::api::AttachParams;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::build::{CONTAINER, Task};
use super::follow::{ended, started};
use super::log_lines::{Line, line};
use super::state::{State, state};
use super::upload::Upload;
use super::{LONGEST, name, rejects};
use crate::cluster::Cluster;
use crate::exit::{Exit, Problem, Result};
use crate::output;

/// What a connection holds in memory in each direction.
const BUFFER: usize = 256 << 10;
/// How long what was received is waited for after the connection broke.
const DRAIN: Duration = Duration::from_secs(2);

/// Loads the files by a pod, and writes rejected lines into a folder.
pub(crate) async fn load(
    cluster: &Cluster,
    release: Option<&str>,
    upload: Upload,
    rejects_dir: &Path,
    timeout: Option<Duration>,
) -> Result {
    let args = ["load".to_owned(), "-".to_owned()];
    let task = Task { args: &args, stdin: true, time_limit: timeout.unwrap_or(LONGEST) };
    let pod = cluster.create_pod(release, &task).await?;
    let pod = name(&pod);
    let done = tokio::select! {
        done = transfer(cluster, &pod, upload, rejects_dir) => done,
        _ = tokio::signal::ctrl_c() => Err(Problem {
            exit: Exit::Interrupted,
            text: "interrupted: the pod is deleted; unless it had received everything, nothing was loaded".to_owned(),
        }),
    };
    cluster.delete_pod(&pod).await;
    done
}

async fn transfer(cluster: &Cluster, pod: &str, upload: Upload, rejects_dir: &Path) -> Result {
    if let State::Ended(end) = state(&started(cluster, pod).await?) {
        return Err(Problem { exit: end.exit, text: format!("the pod {pod} ended before it read anything") });
    }
    let parameters = AttachParams::default()
        .container(CONTAINER)
        .stdin(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER);
    let attached = cluster.pods().attach(pod, &parameters).await;
    let mut attached = cluster.check("attach to the pod", attached)?;
    let missing = || Problem::failed("the connection to the pod lacks a stream");
    let stdin = attached.stdin().ok_or_else(missing)?;
    let stdout = attached.stdout().ok_or_else(missing)?;
    let stderr = attached.stderr().ok_or_else(missing)?;
    let mut over = pin!(attached.take_status().ok_or_else(missing)?);

    let bar = bar(upload.bytes);
    let rejects = tempfile::tempfile()
        .map_err(|error| Problem::failed(format!("cannot create a file for the rejected lines: {error}")))?;
    let mut receiving = tokio::spawn(receive(stdout, rejects));
    let mut showing = tokio::spawn(show_log(stderr, bar.clone()));
    let (sender, chunks) = mpsc::channel(4);
    let reading = tokio::task::spawn_blocking(move || {
        let chunks = BufWriter::with_capacity(BUFFER, Chunks(sender));
        upload.write(chunks)
    });
    let status = {
        let mut feeding = pin!(feed(stdin, chunks, &bar));
        tokio::select! {
            _ = &mut feeding => over.await,
            status = &mut over => status,
        }
    };
    // The file is read no further once nobody takes its chunks.
    let sent = reading.await.map_err(io::Error::other).flatten();
    let broken = status.is_none();
    let received = output_of(&mut receiving, broken).await;
    if output_of(&mut showing, broken).await.is_none() {
        showing.abort();
    }
    bar.finish_and_clear();

    let end = ended(cluster, pod).await?;
    if let Some(text) = end.problem {
        return Err(Problem { exit: end.exit, text });
    }
    if end.exit == Exit::Done || end.exit == Exit::Pod(3) {
        match received {
            Some(Ok(file)) => unpack(file, rejects_dir),
            Some(Err(error)) => output::warning(&format!("the rejected lines did not come back: {error}")),
            None => output::warning(
                "the rejected lines did not come back, as the connection broke: load the folder again",
            ),
        }
        return Ok(end.exit);
    }
    // What else went wrong, the pod has said in its log.
    match sent {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Problem {
            exit: end.exit,
            text: format!("the files could not be read, and nothing was loaded: {error}"),
        }),
        _ if broken => Err(Problem {
            exit: end.exit,
            text: "the connection to the pod broke, and nothing was loaded: try again".to_owned(),
        }),
        _ => Ok(end.exit),
    }
}

/// What a task brings; none if the connection broke and the task still waits.
async fn output_of<T>(task: &mut JoinHandle<T>, broken: bool) -> Option<T> {
    let limit = if broken { DRAIN } else { LONGEST };
    tokio::time::timeout(limit, task).await.ok()?.ok()
}

fn unpack(file: File, folder: &Path) {
    match rejects::unpack(file, folder) {
        Ok(files) => {
            for file in files {
                output::note(&format!("rejected lines: {}", file.display()));
            }
        }
        Err(error) => {
            output::warning(&format!("the rejected lines cannot be written to {}: {error}", folder.display()))
        }
    }
}

fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style =
        ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes} sent, {bytes_per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Hands what is written over to a task, in chunks.
struct Chunks(mpsc::Sender<Vec<u8>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(bytes.to_vec());
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends the chunks, and then the end of the input: whether the archive is complete says its end
/// mark.
async fn feed(
    mut stdin: impl AsyncWrite + Unpin,
    mut chunks: mpsc::Receiver<Vec<u8>>,
    bar: &ProgressBar,
) -> io::Result<()> {
    while let Some(chunk) = chunks.recv().await {
        stdin.write_all(&chunk).await?;
        bar.inc(chunk.len() as u64);
    }
    stdin.shutdown().await
}

/// Keeps the archive of rejects until the load has ended.
async fn receive(mut stdout: impl AsyncRead + Unpin, file: File) -> io::Result<File> {
    let mut file = tokio::fs::File::from_std(file);
    tokio::io::copy(&mut stdout, &mut file).await?;
    file.flush().await?;
    let mut file = file.into_std().await;
    file.rewind()?;
    Ok(file)
}

async fn show_log(stderr: impl AsyncRead + Unpin, bar: ProgressBar) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let (Line::Log(text) | Line::Output(text)) = line(&text);
        bar.suspend(|| output::note(&text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_whole_folder_is_fed_in_chunks_and_then_the_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("members.csv"), vec![b'x'; 3 * BUFFER]).unwrap();
        let upload = Upload::find(folder.path()).unwrap();
        let (sender, chunks) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || {
            upload.write(BufWriter::with_capacity(BUFFER, Chunks(sender)))
        });
        let mut received = Vec::new();
        feed(&mut received, chunks, &ProgressBar::hidden()).await.unwrap();
        reading.await.unwrap().unwrap();
        let mut archive = tar::Archive::new(received.as_slice());
        assert_eq!(archive.entries().unwrap().next().unwrap().unwrap().size(), 3 * BUFFER as u64);
    }

    #[tokio::test]
    async fn reading_ends_when_nobody_takes_the_chunks() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("members.csv"), vec![b'x'; 3 * BUFFER]).unwrap();
        let upload = Upload::find(folder.path()).unwrap();
        let (sender, chunks) = mpsc::channel(1);
        drop(chunks);
        let reading = tokio::task::spawn_blocking(move || {
            upload.write(BufWriter::with_capacity(BUFFER, Chunks(sender)))
        });
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
