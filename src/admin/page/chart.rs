//! The throughput of a target over the last ten minutes, as an inline SVG without styles of its own, and in words.

use std::fmt::Write as _;

use super::{
    html::Html,
    words::{bytes, duration},
};
use crate::admin::model::{TargetStatus, TrafficStatus};

/// The width of an interval in the units of the drawing.
const STEP: u64 = 10;
/// The height of the drawing. The style sheet stretches it.
const HEIGHT: u64 = 100;

/// Writes the chart with its legend. `id` is unique in the document.
pub(super) fn write(html: &mut Html, id: &str, target: &TargetStatus) {
    let TrafficStatus { sent_bytes, received_bytes, interval_seconds, sent_history, received_history } =
        &target.traffic;
    let rates = |history: &[u64]| -> Vec<u64> {
        history.iter().map(|sum| sum.checked_div(*interval_seconds).unwrap_or_default()).collect()
    };
    let (received, sent) = (rates(received_history), rates(sent_history));
    let highest = |rates: &[u64]| rates.iter().copied().max().unwrap_or_default();
    let top = ceiling(highest(&received).max(highest(&sent)));
    let intervals = received.len().max(sent.len()) as u64;
    let span = duration(intervals.saturating_mul(*interval_seconds));
    let now = target.clients.iter().fold((0_u64, 0_u64), |(received, sent), client| {
        (received.saturating_add(client.received_rate), sent.saturating_add(client.sent_rate))
    });

    html.markup("<figure class=\"chart\"><div class=\"plot\"><span class=\"top\">")
        .text(bytes(top))
        .markup("/s</span><svg");
    html.attribute("viewBox", format_args!("0 0 {} {HEIGHT}", intervals * STEP));
    html.markup(" preserveAspectRatio=\"none\" role=\"img\"").attribute("aria-labelledby", format_args!("{id}-title"));
    html.markup("><title").attribute("id", format_args!("{id}-title")).markup(">Throughput of ").text(&target.name);
    html.markup(" in the last ").text(&span).markup(": at most ").text(bytes(highest(&received)));
    html.markup(" per second from the database, ").text(bytes(highest(&sent))).markup(" per second to it</title>");
    for quarter in [1, 2, 3] {
        html.markup("<path class=\"grid\"");
        html.attribute("d", format_args!("M0 {}H{}", HEIGHT * quarter / 4, intervals * STEP)).markup("/>");
    }
    html.markup("<path class=\"received area\"").attribute("d", area(&received, top)).markup("/>");
    html.markup("<path class=\"received line\"").attribute("d", line(&received, top)).markup("/>");
    html.markup("<path class=\"sent line\"").attribute("d", line(&sent, top)).markup("/></svg>");
    html.markup("<span class=\"from\">").text(&span).markup(" ago</span><span class=\"to\">now</span></div>");
    html.markup("<figcaption><ul>");
    for (class, direction, rate, highest, total) in [
        ("received", "from the database", now.0, highest(&received), *received_bytes),
        ("sent", "to the database", now.1, highest(&sent), *sent_bytes),
    ] {
        html.markup("<li><span").attribute("class", format_args!("key {class}"));
        html.markup(" aria-hidden=\"true\"></span><b>").text(bytes(rate)).markup("/s</b> ").text(direction);
        html.markup(" <span class=\"quiet\">(at most ")
            .text(bytes(highest.max(rate)))
            .markup("/s; ")
            .text(bytes(total));
        html.markup(" since the start)</span></li>");
    }
    html.markup("</ul></figcaption></figure>");
}

/// The value at the upper edge: 1, 2 or 5 times a power of ten, at least 1 kB.
fn ceiling(highest: u64) -> u64 {
    let powers = std::iter::successors(Some(1000_u64), |power| power.checked_mul(10));
    let mut tops = powers.flat_map(|power| [1, 2, 5].map(|digit| power.saturating_mul(digit)));
    tops.find(|top| *top >= highest).unwrap_or(u64::MAX)
}

/// The outline of the rates, one step for each interval.
fn line(rates: &[u64], top: u64) -> String {
    let mut path = String::new();
    for (index, rate) in rates.iter().enumerate() {
        let y = height(*rate, top);
        if index == 0 {
            let _ = write!(path, "M0 {y}");
        } else {
            let _ = write!(path, "V{y}");
        }
        let _ = write!(path, "H{}", (index as u64 + 1) * STEP);
    }
    path
}

/// The area below the outline.
fn area(rates: &[u64], top: u64) -> String {
    if rates.is_empty() { String::new() } else { format!("{}V{HEIGHT}H0Z", line(rates, top)) }
}

/// The distance of a rate from the upper edge.
fn height(rate: u64, top: u64) -> u64 {
    let used = u128::from(rate) * u128::from(HEIGHT) / u128::from(top.max(1));
    HEIGHT - u64::try_from(used).unwrap_or(HEIGHT).min(HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_edge_is_a_round_number() {
        let tops = [0, 1000, 1001, 2000, 2001, 5001, 12_345, 600_000, u64::MAX].map(ceiling);
        assert_eq!(tops, [1000, 1000, 2000, 2000, 5000, 10_000, 20_000, 1_000_000, u64::MAX]);
    }

    #[test]
    fn each_interval_is_a_step() {
        assert_eq!(line(&[0, 50, 100], 100), "M0 100H10V50H20V0H30");
        assert_eq!(area(&[0, 50], 100), "M0 100H10V50H20V100H0Z");
        assert_eq!((line(&[], 100), area(&[], 100)), (String::new(), String::new()));
        assert_eq!(height(u64::MAX, 1), 0);
    }
}
