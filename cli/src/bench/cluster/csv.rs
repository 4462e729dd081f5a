//! What a cluster run found as comma-separated values (RFC 4180): a row for each flow, and one for all flows of a
//! measurement. Measures nothing.

use std::fmt::Write as _;

use super::report::{Cluster, FlowFigures, Latency, Step};

const HEAD: &str = "step,topology,what,transport,url,size,parts,links,threads,hwm,rate_asked,background_size,from,to,\
                    messages_per_second,gigabytes_per_second,min_us,mean_us,p50_us,p90_us,p99_us,p99_9_us,p99_99_us,max_us,\
                    lost,cpu_ns_per_message,cpu_ns_per_byte,copied_per_byte,ratio\r\n";

pub(super) fn of(cluster: &Cluster) -> String {
    let mut text = HEAD.to_owned();
    for step in &cluster.steps {
        for flow in &step.flows {
            row(&mut text, step, Some(flow));
        }
        row(&mut text, step, None);
    }
    text
}

fn row(text: &mut String, step: &Step, flow: Option<&FlowFigures>) {
    let (item, total) = (&step.item, &step.total);
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let name = |rank: Option<u32>| rank.map_or("all".to_owned(), |rank| rank.to_string());
    let (messages, bytes, latency, lost) = match flow {
        Some(flow) => (flow.messages_per_second, flow.gigabytes_per_second, &flow.latency, flow.lost),
        None => (total.messages_per_second, total.gigabytes_per_second, &total.latency, total.lost),
    };
    let us = |figure: fn(&Latency) -> f64| number(latency.as_ref().map(figure));
    let is_background = flow.is_some_and(|flow| flow.background);
    let cells = [
        step.number.to_string(),
        item.topology.name().to_owned(),
        if is_background { "background".to_owned() } else { item.what() },
        item.scheme().to_owned(),
        item.url.clone(),
        if is_background { item.background.unwrap_or(0) } else { item.size }.to_string(),
        item.parts.to_string(),
        item.links.to_string(),
        item.threads.to_string(),
        item.hwm.map_or(String::new(), |hwm| hwm.to_string()),
        number(item.rate),
        item.background.map_or(String::new(), |size| size.to_string()),
        name(flow.map(|flow| flow.from)),
        name(flow.and_then(|flow| flow.to)),
        messages.to_string(),
        bytes.to_string(),
        us(|latency| latency.min_us),
        us(|latency| latency.mean_us),
        us(|latency| latency.p50_us),
        us(|latency| latency.p90_us),
        us(|latency| latency.p99_us),
        us(|latency| latency.p99_9_us),
        us(|latency| latency.p99_99_us),
        us(|latency| latency.max_us),
        lost.map_or(String::new(), |lost| lost.to_string()),
        number(total.cpu_ns_per_message.filter(|_| flow.is_none())),
        number(total.cpu_ns_per_byte.filter(|_| flow.is_none())),
        number(total.copied_per_byte.filter(|_| flow.is_none())),
        number(total.ratio.filter(|_| flow.is_none())),
    ];
    let cells: Vec<_> = cells.iter().map(|cell| quoted(cell)).collect();
    let _ = write!(text, "{}\r\n", cells.join(","));
}

/// Quoted where it has to be.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_are_quoted() {
        assert_eq!(quoted("latency, 2 threads"), "\"latency, 2 threads\"");
        assert_eq!((quoted("a \"b\""), quoted("1.5")), ("\"a \"\"b\"\"\"".to_owned(), "1.5".to_owned()));
    }
}
