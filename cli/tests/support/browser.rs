//! A page in a headless Chromium, which says what it shows. Judges nothing.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::file;

/// What the page looks like from within. The script stands last in the body and runs as it is read, when all before it is there;
/// asking for places makes the browser lay it out. The page's own policy is widened for the script alone, so that an attempt
/// to load anything is a violation.
const PROBE: &str = r#"
<script>
{
  const box = element => { const { x, y, width, height } = element.getBoundingClientRect(); return { x, y, width, height } };
  const plots = [...document.querySelectorAll('svg.plot')].map(svg => ({
    id: svg.querySelector('title').id,
    described: svg.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id).textContent.trim()),
    frame: box(svg),
    marks: [...svg.querySelectorAll('.mark')].map(box),
    lines: [...svg.querySelectorAll('.line')].map(line => ({ ...box(line), length: line.getTotalLength() })),
    names: [...svg.querySelectorAll('.name')].map(name => ({ ...box(name), text: name.textContent,
      colour: getComputedStyle(name).fill })),
  }));
  const maps = [...document.querySelectorAll('svg.map')].map(svg => ({
    title: svg.querySelector('title').textContent,
    frame: box(svg),
    cells: [...svg.querySelectorAll('rect.cell > title')].map(title => ({ ...box(title.parentElement), text: title.textContent,
      colour: getComputedStyle(title.parentElement).fill })),
    slow: [...svg.querySelectorAll('rect.slow > title')].map(title => ({ ...box(title.parentElement), text: title.textContent,
      stroke: getComputedStyle(title.parentElement).stroke })),
  }));
  const colours = getComputedStyle(document.body);
  const said = { plots, maps, blocked: window.blocked, resources: performance.getEntriesByType('resource').map(entry => entry.name),
    wide: document.documentElement.scrollWidth > innerWidth, ink: colours.color, paper: colours.backgroundColor,
    text: document.body.innerText };
  const place = document.createElement('pre');
  place.id = 'probe';
  place.textContent = encodeURIComponent(JSON.stringify(said));
  document.body.append(place);
}
</script>
"#;

/// Before anything that could be loaded.
const WATCH: &str = "<script>window.blocked = []; document.addEventListener('securitypolicyviolation', \
                     event => blocked.push(event.blockedURI));</script>";

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Opens a page in Chromium, `width` pixels wide, and asks it what it shows: `plots` and `maps` with their parts and places,
/// `text`, and what it tried to load (`blocked`, `resources`).
pub(crate) fn look(name: &str, page: &str, width: u32, options: &[&str]) -> Value {
    assert!(page.contains(POLICY), "the page allows itself to load something");
    let probed = page
        .replace(POLICY, &format!("{POLICY}; script-src 'unsafe-inline'"))
        .replace("</title>", &format!("</title>{WATCH}"))
        .replace("</body>", &format!("{PROBE}</body>"));
    let path = file(name);
    std::fs::write(&path, probed).unwrap();
    let profile = file(&format!("{name}.profile"));
    let browser = std::env::var("CHROMIUM").unwrap_or("chromium".to_owned());
    let output = Command::new(&browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},1200"))
        .args(options)
        .arg(format!("file://{}", path.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot start {browser}: {error}; install Chromium (ci/install), or set CHROMIUM")
        });
    let _ = std::fs::remove_dir_all(profile);
    let dom = String::from_utf8_lossy(&output.stdout);
    let said = dom.split("<pre id=\"probe\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let said =
        said.unwrap_or_else(|| panic!("no answer: {}\n{dom}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(&decoded(said)).unwrap()
}

/// What encodeURIComponent has made of a text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
