//! Runs that `rankbench watch` found, in lines for a log and drawn for a terminal of any width.

use std::collections::BTreeSet;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar::NINE_LEVELS;
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph};

use crate::env::console::spoken;
use crate::launch::watched::WatchedRun;
use crate::report::formats::text::wrap;
use crate::store::survey::{RunState, time_left};

/// Columns from which a run has one line; below, its values are wrapped under its name.
const WIDE: u16 = 112;
/// Columns of a run's name on a wide terminal.
const NAME: usize = 30;
/// Characters of the losses of a run.
const SPARKS: usize = 8;
/// Characters of the bar of epochs.
const BAR: usize = 8;
/// Lines of a failure's reason.
const REASON_LINES: usize = 2;

/// State of a run in a word, in the order of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A process makes it.
    Running,
    /// It failed.
    Failed,
    /// It was begun and no process makes it.
    Stopped,
    /// It is finished.
    Done,
    /// Nothing of it is made.
    NotBegun,
    /// Its `run.toml` cannot be read.
    NotReadable,
}

impl State {
    /// All of them, finished ones first.
    const ALL: [State; 6] =
        [State::Done, State::Running, State::Stopped, State::Failed, State::NotBegun, State::NotReadable];

    /// State of a run.
    pub fn of(run: &WatchedRun) -> Self {
        match run.run.state {
            RunState::Done(_) => State::Done,
            RunState::Running(_) => State::Running,
            RunState::Interrupted | RunState::CutOff => State::Stopped,
            RunState::Failed => State::Failed,
            RunState::NotStarted => State::NotBegun,
            RunState::Unreadable => State::NotReadable,
        }
    }

    /// Whether it may still change.
    pub fn is_open(self) -> bool {
        matches!(self, State::Running | State::Stopped | State::NotBegun)
    }

    /// Word of the state.
    pub fn word(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Running => "running",
            State::Stopped => "stopped",
            State::Failed => "failed",
            State::NotBegun => "not begun",
            State::NotReadable => "not readable",
        }
    }

    fn style(self) -> Style {
        match self {
            State::Running => Style::new().fg(Color::Green).add_modifier(Modifier::BOLD),
            State::Failed | State::NotReadable => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            State::Stopped => Style::new().fg(Color::Yellow),
            State::Done => Style::new().fg(Color::Cyan),
            State::NotBegun => Style::new().add_modifier(Modifier::DIM),
        }
    }
}

/// Whether a run may still change.
pub fn is_open(runs: &[WatchedRun]) -> bool {
    runs.iter().any(|run| State::of(run).is_open())
}

/// A run in one line: `rte-lora-s0: running, epoch 2 of 5, loss 0.5000, validation accuracy 61.25`.
pub fn line(run: &WatchedRun) -> String {
    let reason = run.failure.as_ref().map(|reason| format!("; {}", one_line(reason))).unwrap_or_default();
    let elsewhere = run.run.elsewhere.as_ref().map_or(String::new(), |title| format!("{title}, made elsewhere: "));
    format!("{}: {elsewhere}{}{}{reason}", run.run.id, State::of(run).word(), values(run))
}

/// Everything that is known of a run's training: `, epoch 2 of 5, loss 0.5000`.
fn values(run: &WatchedRun) -> String {
    let mut parts = Vec::new();
    parts.extend(run.epochs.1.map(|planned| format!("epoch {} of {planned}", run.epochs.0)));
    parts.extend(run.losses.last().map(|loss| format!("loss {loss:.4}")));
    parts.extend(run.validation.as_ref().map(|(metric, points)| format!("validation {metric} {points:.2}")));
    parts.extend(run.left.map(|left| format!("about {} of training left", spoken(left))));
    parts.iter().map(|part| format!(", {part}")).collect()
}

/// `4 runs: 1 done, 1 running, 0 stopped, 1 failed, 1 not begun`; runs that cannot be read where there are some.
pub fn summary(runs: &[WatchedRun]) -> String {
    let count = |state: State| runs.iter().filter(|run| State::of(run) == state).count();
    let counted = State::ALL.map(|state| (state, count(state)));
    let shown = counted.iter().filter(|(state, count)| *state != State::NotReadable || *count > 0);
    let parts: Vec<String> = shown.map(|(state, count)| format!("{count} {}", state.word())).collect();
    format!("{} runs: {}", runs.len(), parts.join(", "))
}

/// Time left of the whole sweep, in words; none where nothing is open.
fn sweep_left(runs: &[WatchedRun]) -> Option<String> {
    if !is_open(runs) {
        return None;
    }
    let holders: BTreeSet<String> = runs.iter().filter_map(|run| run.run.holder()).collect();
    Some(match (time_left(runs.iter().map(|run| &run.run), holders.len()), holders.len()) {
        (None, workers) => match projected_left(runs, workers) {
            Some(left) => format!("about {} left, by the epochs of the first runs", spoken(left)),
            None => "time left: not known before an epoch is done".into(),
        },
        (Some(left), 0) => format!("about {} of work left; no one is at it", spoken(left)),
        (Some(left), workers) => format!("about {} left with {workers} at work", spoken(left)),
    })
}

/// Time left where no run is done: that of the runs at work by their epochs, and as much as they take for each that is open.
fn projected_left(runs: &[WatchedRun], workers: usize) -> Option<Duration> {
    let whole = |run: &WatchedRun| {
        let (done, planned) = (run.epochs.0, run.epochs.1?);
        Some(run.left?.mul_f64(planned as f64 / planned.checked_sub(done).filter(|rest| *rest > 0)? as f64))
    };
    let known: Vec<Duration> = runs.iter().filter_map(whole).collect();
    let mean = known.iter().sum::<Duration>().checked_div(u32::try_from(known.len()).ok()?)?;
    let open = runs.iter().filter(|run| State::of(run).is_open());
    let total: Duration = open.map(|run| run.left.unwrap_or(mean)).sum();
    total.checked_div(u32::try_from(workers.max(1)).ok()?)
}

/// Draws the runs of the sweep in `place`, those at work first; `scroll` is the first line of them that is shown, and is kept inside.
pub fn draw(frame: &mut Frame, place: &str, runs: &[WatchedRun], scroll: &mut usize) {
    let width = usize::from(frame.area().width);
    let head = [Some(summary(runs)), sweep_left(runs)].into_iter().flatten();
    let head: Vec<String> = head.flat_map(|text| lines_of(&wrap(&text, width, "  "))).collect();
    let is_wide = frame.area().width >= WIDE;
    let columns = u16::from(is_wide);
    let head_height = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let heights = [1, head_height, columns].map(Constraint::Length);
    let [bar, top, names, list, foot] =
        Layout::vertical(heights.into_iter().chain([Constraint::Min(1), Constraint::Length(1)])).areas(frame.area());
    let closed = runs.iter().filter(|run| !State::of(run).is_open()).count();
    let gauge = LineGauge::default()
        .ratio(if runs.is_empty() { 0.0 } else { closed as f64 / runs.len() as f64 })
        .label(format!("{place}: {closed} of {} runs", runs.len()))
        .filled_symbol("━")
        .filled_style(Style::new().fg(Color::Cyan));
    frame.render_widget(gauge, bar);
    frame.render_widget(Paragraph::new(head.into_iter().map(Line::from).collect::<Vec<_>>()), top);
    frame.render_widget(Line::styled(column_names(), Style::new().add_modifier(Modifier::DIM)), names);

    let mut ordered: Vec<&WatchedRun> = runs.iter().collect();
    ordered.sort_by_key(|run| State::of(run));
    let lines: Vec<Line> = ordered.iter().flat_map(|run| lines(run, width, is_wide)).collect();
    let room = usize::from(list.height);
    *scroll = (*scroll).min(lines.len().saturating_sub(room));
    let total = lines.len();
    let shown: Vec<Line> = lines.into_iter().skip(*scroll).take(room).collect();
    let last = *scroll + shown.len();
    frame.render_widget(Paragraph::new(shown), list);
    let more = if total > room {
        format!(" · lines {}–{last} of {total}, ↑ ↓ PgUp PgDn", *scroll + 1)
    } else {
        String::new()
    };
    frame.render_widget(Line::styled(format!("q leaves{more}"), Style::new().add_modifier(Modifier::DIM)), foot);
}

fn column_names() -> String {
    let (epochs, losses) = (BAR + 8, SPARKS + 9);
    format!(
        "{:<NAME$} {:<9} {:<epochs$} {:<losses$} {:<15} {:<11} Device",
        "Run", "State", "Epochs", "Loss", "Validation", "Left"
    )
}

/// Lines of a run: one where the terminal is wide, its name and its values below each other where it is not.
fn lines(run: &WatchedRun, width: usize, is_wide: bool) -> Vec<Line<'static>> {
    let state = State::of(run);
    let mut lines = match is_wide {
        true => vec![wide(run)],
        false => {
            let mut text = values(run).trim_start_matches(", ").to_string();
            text.extend(run.device.iter().filter(|_| state == State::Running).map(|device| format!(", on {device}")));
            let name = Line::from(vec![
                Span::raw(format!("{} ", shortened(&run.run.id, width.saturating_sub(state.word().len() + 1)))),
                Span::styled(state.word(), state.style()),
            ]);
            let sparks = (state == State::Running).then(|| sparks(&run.losses)).filter(|sparks| !sparks.is_empty());
            let below = lines_of(&indented(&text, width)).into_iter().chain(sparks.map(|sparks| format!("  {sparks}")));
            std::iter::once(name).chain(below.map(Line::from)).collect()
        }
    };
    if let Some(reason) = &run.failure {
        let reason = lines_of(&indented(&one_line(reason), width)).into_iter().take(REASON_LINES);
        lines.extend(reason.map(|text| Line::styled(text, Style::new().fg(Color::Red))));
    }
    lines
}

fn wide(run: &WatchedRun) -> Line<'static> {
    let state = State::of(run);
    let epochs = run.epochs.1.map_or(String::new(), |planned| {
        let filled = (BAR * run.epochs.0).checked_div(planned).unwrap_or(0).min(BAR);
        format!("{}{} {}/{planned}", "━".repeat(filled), "─".repeat(BAR - filled), run.epochs.0)
    });
    let loss = run.losses.last().map_or(String::new(), |loss| format!("{loss:.4}"));
    let validation = run.validation.as_ref().map_or(String::new(), |(metric, points)| format!("{metric} {points:.2}"));
    let left = run.left.map_or(String::new(), spoken);
    let device = run.device.clone().unwrap_or_default();
    let (bars, sparks) = (BAR + 8, sparks(&run.losses));
    Line::from(vec![
        Span::raw(format!("{:<NAME$} ", shortened(&run.run.id, NAME))),
        Span::styled(format!("{:<9} ", state.word()), state.style()),
        Span::raw(format!("{epochs:<bars$} {sparks:<SPARKS$} {loss:<8} {validation:<15} {left:<11} {device}")),
    ])
}

/// The losses as bars, the largest the full height; of many the last ones.
fn sparks(losses: &[f64]) -> String {
    let levels = [
        NINE_LEVELS.one_eighth,
        NINE_LEVELS.one_quarter,
        NINE_LEVELS.three_eighths,
        NINE_LEVELS.half,
        NINE_LEVELS.five_eighths,
        NINE_LEVELS.three_quarters,
        NINE_LEVELS.seven_eighths,
        NINE_LEVELS.full,
    ];
    let most = losses.iter().copied().filter(|loss| loss.is_finite()).fold(0.0, f64::max);
    let bar = |loss: &f64| match loss.is_finite() && most > 0.0 {
        // The cast saturates: a loss below 0 is the lowest bar.
        true => levels[((loss / most * levels.len() as f64) as usize).min(levels.len() - 1)],
        false => "?",
    };
    losses[losses.len().saturating_sub(SPARKS)..].iter().map(bar).collect()
}

/// A name cut to so many characters, with its end, which tells runs apart.
fn shortened(name: &str, most: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= most || most < 3 {
        return name.to_string();
    }
    let (head, tail) = ((most - 1) / 2, most / 2);
    characters[..head].iter().chain(&['…']).chain(&characters[characters.len() - tail..]).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn indented(text: &str, width: usize) -> String {
    if text.is_empty() { String::new() } else { wrap(&format!("- {text}"), width, "  ").replacen("- ", "  ", 1) }
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::store::holder;
    use crate::store::survey::{Running, SurveyedRun};

    fn run(id: &str, state: RunState, losses: &[f64]) -> WatchedRun {
        let kind = ("rte".to_string(), "lora".to_string());
        WatchedRun {
            run: SurveyedRun { id: id.into(), spec: None, kind, elsewhere: None, state },
            epochs: (losses.len(), Some(5)),
            losses: losses.to_vec(),
            validation: losses.last().map(|loss| ("accuracy".to_string(), 100.0 - 50.0 * loss)),
            left: None,
            device: Some("NVIDIA H100 80GB HBM3".into()),
            failure: None,
        }
    }

    fn sweep() -> Vec<WatchedRun> {
        let seconds = Duration::from_secs;
        let (holder, since) = (holder::this().clone(), seconds(30));
        let running = Running { holder, since, silent: Duration::ZERO, silence: seconds(120) };
        let failure = Some(
            "the loss is not finite at step 120:\nexpected a number, got NaN; a smaller learning rate helps"
                .to_string(),
        );
        vec![
            run("mnli-adalora-s0-0123456789", RunState::Done(seconds(90)), &[0.9, 0.7, 0.5, 0.4, 0.39]),
            WatchedRun {
                left: Some(seconds(90)),
                ..run("rte-lora-s0-1123456789", RunState::Running(running), &[0.8, 0.5])
            },
            WatchedRun { failure, ..run("rte-lora-s1-2123456789", RunState::Failed, &[f64::NAN]) },
            run("rte-sora-s0-3123456789", RunState::Interrupted, &[0.7]),
            run("rte-sora-s1-4123456789", RunState::NotStarted, &[]),
        ]
    }

    fn drawn(runs: &[WatchedRun], width: u16, height: u16, scroll: &mut usize) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, "results/mine", runs, scroll)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_wide_terminal_has_a_line_a_run() {
        insta::assert_snapshot!(drawn(&sweep(), 120, 14, &mut 0));
    }

    #[test]
    fn a_narrow_terminal_wraps_what_a_run_has() {
        insta::assert_snapshot!(drawn(&sweep(), 44, 30, &mut 0));
    }

    #[test]
    fn scrolling_ends_at_the_last_line_and_runs_at_work_come_first() {
        let runs = sweep();
        let mut scroll = 1000;
        let end = drawn(&runs, 120, 7, &mut scroll);
        assert!(end.contains("rte-sora-s1") && !end.contains("rte-lora-s0") && end.contains("of 6"), "{end}");
        assert_eq!(scroll, 4, "the last two of six lines fit");
        assert!(drawn(&runs, 120, 7, &mut 0).contains("rte-lora-s0"));
        // Nothing is drawn beyond a terminal of any size, and nothing fails on an empty store.
        (1..40).for_each(|size| drop(drawn(&runs, size, size.div_ceil(3), &mut 0)));
        assert!(drawn(&[], 80, 5, &mut 0).contains("0 of 0 runs"));
    }

    #[test]
    fn a_run_is_one_line_of_a_log() {
        let runs = sweep();
        assert_eq!(
            line(&runs[1]),
            "rte-lora-s0-1123456789: running, epoch 2 of 5, loss 0.5000, validation accuracy 75.00, about 1 min 30 s of training left"
        );
        assert!(line(&runs[2]).ends_with(
            "; the loss is not finite at step 120: expected a number, got NaN; a smaller learning rate helps"
        ));
        assert_eq!(summary(&runs), "5 runs: 1 done, 1 running, 1 stopped, 1 failed, 1 not begun");
    }

    #[test]
    fn time_left_is_known_by_the_epochs_before_a_run_is_done() {
        // 90 s for the three epochs that are left, so 150 s for each of the two others that are open.
        let runs = &sweep()[1..];
        assert_eq!(sweep_left(runs).unwrap(), "about 6 min 30 s left, by the epochs of the first runs");
        assert_eq!(sweep_left(&runs[2..]).unwrap(), "time left: not known before an epoch is done");
    }

    #[test]
    fn losses_are_bars_of_the_largest() {
        assert_eq!(sparks(&[0.8, 0.4, 0.0, f64::NAN]), "█▅▁?");
        assert_eq!(sparks(&[1.0; 40]).chars().count(), SPARKS);
        assert_eq!(sparks(&[]), "");
    }
}
