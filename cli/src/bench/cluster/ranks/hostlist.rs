//! Slurm's lists of hosts, `n[1-4],x[07-09]`, one by one. Knows no environment.

use std::fmt::Write as _;

/// Hosts of one list, at most: a list of few bytes may claim billions.
pub(super) const HOSTS_MAX: usize = 1 << 16;

/// Every host that a list names, in its order. A host's name may have several brackets; the last varies fastest. Numbers
/// keep the zeros that their range begins with. The error says what is wrong with the list.
pub(super) fn expand(list: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for name in names(list)? {
        let mut expanded = vec![String::new()];
        let mut rest = name;
        while let Some((text, bracket)) = rest.split_once('[') {
            let Some((ranges, after)) = bracket.split_once(']') else {
                return Err("a [ without its ]".to_owned());
            };
            let numbers = numbers(ranges)?;
            if expanded.len().saturating_mul(numbers.len()) > HOSTS_MAX {
                return Err(too_many());
            }
            expanded = expanded
                .iter()
                .flat_map(|start| numbers.iter().map(move |number| format!("{start}{text}{number}")))
                .collect();
            rest = after;
        }
        if rest.contains(']') {
            return Err("a ] without its [".to_owned());
        }
        expanded.iter_mut().for_each(|host| host.push_str(rest));
        hosts.append(&mut expanded);
        if hosts.len() > HOSTS_MAX {
            return Err(too_many());
        }
    }
    Ok(hosts)
}

fn too_many() -> String {
    format!("it names more than {HOSTS_MAX} hosts")
}

/// The list's parts, between commas that are not in brackets.
fn names(list: &str) -> Result<Vec<&str>, String> {
    let mut within = false;
    let parts: Vec<&str> = list
        .split(|character| {
            match character {
                '[' => within = true,
                ']' => within = false,
                _ => {}
            }
            character == ',' && !within
        })
        .map(str::trim)
        .collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("a host without a name".to_owned());
    }
    Ok(parts)
}

/// The numbers of `07-09,12`, as they are written.
fn numbers(ranges: &str) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parsed = |text: &str| -> Option<u64> {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
        };
        let (Some(from), Some(to)) = (parsed(first), parsed(last)) else {
            return Err(format!("'{range}' is neither a number nor a range of them"));
        };
        if from > to {
            return Err(format!("'{range}' ends before it begins"));
        }
        if to - from >= (HOSTS_MAX - numbers.len()) as u64 {
            return Err(too_many());
        }
        let width = first.len();
        for number in from..=to {
            let mut text = String::new();
            let _ = write!(text, "{number:0width$}");
            numbers.push(text);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(list: &str) -> String {
        expand(list).map_or_else(|why| format!("! {why}"), |hosts| hosts.join(" "))
    }

    #[test]
    fn lists_are_expanded_in_their_order() {
        for (list, hosts) in [
            ("n1", "n1"),
            ("n[1-4],x[07-09]", "n1 n2 n3 n4 x07 x08 x09"),
            ("n[9-11]", "n9 n10 n11"),
            ("n[098-101]", "n098 n099 n100 n101"),
            ("n[1,3-4,007],m", "n1 n3 n4 n007 m"),
            ("r[0-1]n[1-2]-ib", "r0n1-ib r0n2-ib r1n1-ib r1n2-ib"),
            ("[1-2]x", "1x 2x"),
            ("h3,h1, h2", "h3 h1 h2"),
            ("n[0-0]", "n0"),
        ] {
            assert_eq!(expanded(list), hosts, "{list}");
        }
    }

    #[test]
    fn what_is_no_list_is_named_and_never_panics() {
        for (list, why) in [
            ("", "a host without a name"),
            ("n1,,n2", "a host without a name"),
            ("n[1-2", "a [ without its ]"),
            ("n1-2]", "a ] without its ["),
            ("n[1]]", "a ] without its ["),
            ("n[]", "'' is neither a number nor a range of them"),
            ("n[1-]", "'1-' is neither"),
            ("n[a-b]", "'a-b' is neither"),
            ("n[+1-2]", "'+1-2' is neither"),
            ("n[1-2-3]", "'1-2-3' is neither"),
            ("n[[1]]", "'[1' is neither"),
            ("n[4-1]", "'4-1' ends before it begins"),
            ("n[99999999999999999999]", "is neither"),
            ("(null)[", "a [ without its ]"),
        ] {
            assert!(
                expanded(list).contains(why) && expanded(list).starts_with('!'),
                "{list}: {}",
                expanded(list)
            );
        }
    }

    #[test]
    fn a_list_cannot_claim_more_hosts_than_the_limit() {
        assert_eq!(expand("n[1-65536]").map(|hosts| hosts.len()), Ok(HOSTS_MAX));
        for list in [
            "n[0-65536]",
            "n[1-18446744073709551615]",
            "a[1-999]b[1-999]c[1-999]",
            "n[1-65536],m",
            "n[0-65535,7]",
        ] {
            assert_eq!(expand(list), Err(too_many()), "{list}");
        }
    }
}
