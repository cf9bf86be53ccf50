//! The protobuf messages of an event file, by the field numbers of TensorFlow's `event.proto` and `summary.proto`.

/// Values at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalars {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// Optimiser steps done.
    pub step: i64,
    /// Tags with their values.
    pub values: Vec<(String, f32)>,
}

/// The first event of a file: the version of its layout.
pub fn version(wall_time: f64) -> Vec<u8> {
    Message::default().double(1, wall_time).bytes(3, b"brain.Event:2").0
}

impl Scalars {
    /// `Event { wall_time, step, summary: Summary { value: [Value { tag, simple_value }] } }`.
    pub fn event(&self) -> Vec<u8> {
        let value = |(tag, value): &(String, f32)| Message::default().bytes(1, tag.as_bytes()).float(2, *value).0;
        let summary = self.values.iter().fold(Message::default(), |summary, pair| summary.bytes(1, &value(pair)));
        Message::default().double(1, self.wall_time).int(2, self.step).bytes(5, &summary.0).0
    }
}

/// A setting of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Settings of a run in TensorBoard's table of them (its HParams).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Name of the run.
    pub run: String,
    /// Start, seconds since 1970.
    pub started: f64,
    /// Names with their values.
    pub settings: Vec<(String, Setting)>,
}

impl Settings {
    /// The event in which a run's settings stand: `SessionStartInfo { hparams, group_name, start_time_secs }` as the content of the
    /// plugin `hparams`, with an empty tensor.
    pub fn event(&self) -> Vec<u8> {
        let entry = |(name, value): &(String, Setting)| {
            let value = match value {
                Setting::Number(number) => Message::default().double(2, *number),
                Setting::Text(text) => Message::default().bytes(3, text.as_bytes()),
            };
            Message::default().bytes(1, name.as_bytes()).bytes(2, &value.0).0
        };
        let hparams = self.settings.iter().fold(Message::default(), |all, pair| all.bytes(1, &entry(pair)));
        let session = hparams.bytes(4, self.run.as_bytes()).double(5, self.started);
        let content = Message::default().bytes(3, &session.0);
        let plugin = Message::default().bytes(1, b"hparams").bytes(2, &content.0);
        let metadata = Message::default().bytes(1, &plugin.0);
        // Floats of the shape [0].
        let shape = Message::default().bytes(2, b"");
        let tensor = Message::default().int(1, 1).bytes(2, &shape.0);
        let value = Message::default().bytes(1, b"_hparams_/session_start_info").bytes(8, &tensor.0);
        let summary = Message::default().bytes(1, &value.bytes(9, &metadata.0).0);
        Message::default().double(1, self.started).bytes(5, &summary.0).0
    }
}

/// A message, field after field.
#[derive(Default)]
struct Message(Vec<u8>);

/// Kinds of a field on the wire.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn key(self, field: u64, kind: u64) -> Self {
        self.varint(field << 3 | kind)
    }

    fn int(self, field: u64, value: i64) -> Self {
        self.key(field, VARINT).varint(value as u64)
    }

    fn double(self, field: u64, value: f64) -> Self {
        self.key(field, FIXED64).raw(&value.to_le_bytes())
    }

    fn float(self, field: u64, value: f32) -> Self {
        self.key(field, FIXED32).raw(&value.to_le_bytes())
    }

    fn bytes(self, field: u64, value: &[u8]) -> Self {
        self.key(field, BYTES).varint(value.len() as u64).raw(value)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Event(wall_time=1.5, step=300, summary=Summary(value=[Summary.Value(tag="a", simple_value=0.25)])).SerializeToString().hex()`
    /// of tensorboard 2.21.
    #[test]
    fn an_event_has_the_bytes_that_tensorboard_writes() {
        let scalars = Scalars { wall_time: 1.5, step: 300, values: vec![("a".into(), 0.25)] };
        assert_eq!(hex::encode(scalars.event()), "09000000000000f83f10ac022a0a0a080a0161150000803e");
    }

    /// `Event(wall_time=2.0, summary=summary_v2.hparams_pb({"lr": 0.5}, trial_id="g", start_time_secs=2))`, and with `{"m": "a"}`, of
    /// tensorboard 2.21.
    #[test]
    fn settings_have_the_bytes_that_tensorboard_writes() {
        let of = |name: &str, setting| {
            let settings = vec![(name.to_string(), setting)];
            hex::encode(Settings { run: "g".into(), started: 2.0, settings }.event())
        };
        let head = "5f68706172616d735f2f73657373696f6e5f73746172745f696e666f42060801120212004a";
        let number = "2c0a2a0a0768706172616d73121f1a1d0a0f0a026c72120911000000000000e03f220167290000000000000040";
        let text = "250a230a0768706172616d7312181a160a080a016d12031a0161220167290000000000000040";
        assert_eq!(of("lr", Setting::Number(0.5)), format!("0900000000000000402a560a540a1c{head}{number}"));
        assert_eq!(of("m", Setting::Text("a".into())), format!("0900000000000000402a4f0a4d0a1c{head}{text}"));
    }
}
