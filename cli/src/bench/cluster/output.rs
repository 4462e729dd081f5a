//! Where a run's records go as they come: a file of JSON Lines, and lines or a progress bar on stderr. At its end the table of
//! figures, the document, and the page; each of these files takes the place of the last run's when it is whole.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::options::Args;
use super::plan::Item;
use super::report::{Cluster, Record, Step};
use super::{csv, page, table};
use crate::bench::table::microseconds;
use crate::failure::{Failure, note};
use crate::info::{print, to_json};
use crate::units;

/// Where records go.
#[derive(Debug)]
pub(super) struct Sink {
    /// Made before anything is measured, so that a wrong name is found then.
    lines: Option<Named>,
    finals: Vec<(Form, PathBuf)>,
    json: bool,
    bar: ProgressBar,
    begun: usize,
    items: usize,
    /// What is measured, and whose figures are shown meanwhile: those of the rank that has told one first.
    what: Option<Item>,
    shown: Option<u32>,
}

#[derive(Debug)]
struct Named {
    path: PathBuf,
    file: File,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Csv,
    Html,
}

impl Named {
    fn new(path: PathBuf) -> Result<Self, Failure> {
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => Err(wrong_name(&path, &error.to_string())),
        }
    }

    fn put(&mut self, text: &str) -> Result<(), Failure> {
        let done = self.file.write_all(text.as_bytes()).and_then(|()| self.file.flush());
        done.map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}; is the disk full?", self.path.display()))
        })
    }
}

/// Not `with_extension`, which would take `.5` off `run-1.5`.
fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(name);
    path.push(ending);
    path.into()
}

fn wrong_name(path: &Path, why: &str) -> Failure {
    Failure::Usage(format!(
        "cannot write {}: {why}; name files by --out in a folder that exists and is yours",
        path.display()
    ))
}

/// Puts a whole file in the place of another, or leaves that one as it is.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let new = with_ending(path, ".tmp");
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&new);
        Failure::Failed(format!("cannot write {}: {error}; is the disk full?", path.display()))
    })
}

impl Sink {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let (mut lines, mut finals) = (None, Vec::new());
        if let Some(name) = &args.out {
            if name.as_os_str().as_encoded_bytes().ends_with(b"/") || name.file_name().is_none() {
                return Err(Failure::Usage(format!(
                    "--out '{}' names a folder: name the files in it, as in {}",
                    name.display(),
                    name.join("result").display()
                )));
            }
            for (form, ending) in [(Form::Json, ".json"), (Form::Csv, ".csv"), (Form::Html, ".html")] {
                let path = with_ending(name, ending);
                if path.is_dir() {
                    return Err(wrong_name(&path, "it is a folder"));
                }
                finals.push((form, path));
            }
            lines = Some(Named::new(with_ending(name, ".jsonl"))?);
        }
        let bar = ProgressBar::new(1);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            // Rarely, since it wakes a thread beside those that are measured.
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        Ok(Self { lines, finals, json: args.json, bar, begun: 0, items: 0, what: None, shown: None })
    }

    /// A measurement begins.
    pub(super) fn begin(&mut self, item: usize, items: usize, what: &Item) {
        (self.begun, self.items) = (item, items);
        self.bar.set_length(items as u64);
        self.bar.set_position(item as u64);
        self.bar.set_message(title(what));
        (self.what, self.shown) = (Some(what.clone()), None);
    }

    /// What a rank's last window came to: messages in a second, or microseconds one way.
    pub(super) fn now(&mut self, rank: u32, figure: f64) {
        let Some(what) = self.what.as_ref().filter(|_| *self.shown.get_or_insert(rank) == rank) else {
            return;
        };
        let figure = if what.kind.is_latency() {
            microseconds(figure)
        } else {
            let bytes = figure * what.size as f64;
            format!("{} msg/s, {}", units::per_second(figure), units::bytes_per_second(bytes))
        };
        let text = format!("{}: now {figure} at rank {rank}", title(what));
        if self.bar.is_hidden() {
            note(&format!("[{}/{}] {text}", self.begun + 1, self.items));
        } else {
            self.bar.set_message(text);
        }
    }

    /// Writes a record, and shows it.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Failure> {
        let json = serde_json::to_string(record)
            .map_err(|error| Failure::Failed(format!("cannot write a record: {error}")))?;
        let written = self.lines.as_mut().map_or(Ok(()), |lines| lines.put(&(json + "\n")));
        match record {
            Record::Step(step) => self.say(&self.line(step)),
            Record::Fault(fault) => self.say(&format!("FAILED {}", fault.why)),
            Record::Skipped(skipped) => self.say(&format!("skipped: {}", skipped.why)),
            Record::Run(_) | Record::Rank(_) | Record::End(_) => {}
        }
        written
    }

    /// The run ends before its time.
    pub(super) fn interrupted(&self, why: &str) {
        self.say(&format!(
            "{why}: what is under way is given up, then the report written; Ctrl-C again waits for no rank"
        ));
    }

    fn say(&self, text: &str) {
        if self.bar.is_hidden() {
            note(text);
        } else {
            self.bar.println(text);
        }
    }

    /// One measurement in one line.
    fn line(&self, step: &Step) -> String {
        format!("[{}/{}] {}: {}", self.begun + 1, self.items, title(&step.item), table::figures(step))
    }

    /// The run is over. What can be printed and written is, and the first failure told.
    pub(super) fn finish(self, cluster: &Cluster) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let printed = if self.json { to_json(cluster) } else { Ok(table::of(cluster)) };
        let printed = printed.and_then(|text| print(&text));
        let mut written = Ok(());
        for (form, path) in &self.finals {
            let text = match form {
                Form::Json => to_json(cluster),
                Form::Csv => Ok(csv::of(cluster)),
                Form::Html => Ok(page::of(cluster)),
            };
            written = written.and(text.and_then(|text| replace(path, &text)));
        }
        let again = |failure: Failure| match &self.lines {
            Some(lines) => failure.with(&format!(
                "`fabriq bench report {}` makes the page of what was measured",
                lines.path.display()
            )),
            None => failure,
        };
        written.map_err(again).and(printed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `tcp incast latency, 64 B`.
pub(super) fn title(item: &Item) -> String {
    let round = item.round.map(|round| format!(", round {}", round + 1)).unwrap_or_default();
    format!("{} {} {}, {}{round}", item.label(), item.topology.name(), item.what(), units::size(item.size))
}
