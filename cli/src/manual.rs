//! `fabriq completions` and `fabriq man`: what shells and man(1) know of this program, made from its own command line. Says
//! nothing of its own.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Cli;
use crate::failure::{Failure, note};

const COMPLETIONS: &str = "\
Examples:
  fabriq completions bash > ~/.local/share/bash-completion/completions/fabriq
  fabriq completions zsh > ~/.zfunc/_fabriq            with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  fabriq completions fish > ~/.config/fish/completions/fabriq.fish";

const MAN: &str = "\
Examples:
  fabriq man ~/.local/share/man/man1 && man fabriq-bench
  sudo fabriq man /usr/local/share/man/man1";

/// Print what makes a shell complete this program's commands and options
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Write man pages, one for this program and one for each of its commands
#[derive(Debug, clap::Args)]
#[command(after_help = MAN)]
pub(crate) struct ManArgs {
    /// The folder; made if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fabriq", &mut script);
    crate::info::print(&String::from_utf8_lossy(&script))
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let folder = &args.folder;
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder));
    written.map_err(|error| {
        Failure::Failed(format!("cannot write to {}: {error}; name a folder of yours", folder.display()))
    })?;
    note(&format!("wrote fabriq.1 and a page for each command to {}", folder.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    /// Every command that users see, by the words that name it, and its long options.
    fn commands(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Vec<String>)>) {
        let words = [words, &[command.get_name().to_owned()]].concat();
        let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
        found.push((
            words.clone(),
            options.filter_map(|argument| argument.get_long()).map(str::to_owned).collect(),
        ));
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            commands(inner, &words, found);
        }
    }

    fn all() -> Vec<(Vec<String>, Vec<String>)> {
        let mut found = Vec::new();
        commands(&Cli::command(), &[], &mut found);
        assert!(found.iter().any(|(words, _)| *words == ["fabriq", "bench", "compare"]), "{found:?}");
        found
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_know_every_command_and_option() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fabriq", &mut script);
            let script = String::from_utf8(script).unwrap();
            for (words, options) in all() {
                for word in words.iter().chain(&options) {
                    assert!(script.contains(word), "{shell}: {word}");
                }
            }
        }
    }

    #[test]
    fn every_command_has_a_man_page_with_its_options_and_examples() {
        let folder = std::env::temp_dir().join(format!("fabriq-man-{}", std::process::id()));
        man(&ManArgs { folder: folder.clone() }).unwrap();
        let mut pages: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|page| page.unwrap().file_name().into_string().unwrap())
            .collect();
        for (words, options) in all() {
            let name = format!("{}.1", words.join("-"));
            let page = std::fs::read_to_string(folder.join(&name)).unwrap();
            // As roff(7) has it: hyphens escaped, words bold.
            for option in options {
                assert!(page.contains(&option.replace('-', "\\-")), "{name}: --{option}");
            }
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
            pages.retain(|page| *page != name);
        }
        std::fs::remove_dir_all(folder).unwrap();
        assert!(pages.is_empty(), "pages of no command that users see: {pages:?}");
    }
}
