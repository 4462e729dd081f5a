//! That a shell takes the completions, and that man pages go where they are told. What they cover is tested beside them.

mod support;

use std::process::{Command, Stdio};

use support::run;

/// What bash would offer for the last of `words`.
fn offered(words: &[&str]) -> Vec<String> {
    let script = run(&["completions", "bash"]).printed();
    let ask = r#"
        eval "$0"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _fabriq fabriq "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["-c", ask, &script])
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered(&["fabriq", "mon"]), ["monitor"]);
    assert_eq!(offered(&["fabriq", "bench", "com"]), ["compare"]);
    assert_eq!(offered(&["fabriq", "bench", "compare", "--thr"]), ["--threshold"]);
    assert_eq!(offered(&["fabriq", "proxy", "--type", "st"]), ["streamer"]);
}

#[test]
fn man_pages_go_where_they_are_told() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("man/man1");
    assert_eq!(run(&["man", folder.to_str().unwrap()]).printed(), "");
    let page = std::fs::read_to_string(folder.join("fabriq-bench-compare.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("before.json"), "{page}");
    let said = run(&["man", "/proc/nowhere"]).failed(1);
    assert!(said.contains("/proc/nowhere") && said.contains("folder"), "{said}");
    assert!(run(&["completions", "tcsh"]).failed(2).contains("fish"));
}
