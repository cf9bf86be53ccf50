//! TFRecord, the framing of event files: length, its checksum, the bytes, their checksum; all numbers little-endian.

/// Added to a checksum that lies among the bytes it is of (`kMaskDelta` of TensorFlow's crc32c.h).
const MASK: u32 = 0xa282_ead8;

/// Appends a record to a file's bytes.
pub fn push(file: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length));
    file.extend(bytes);
    file.extend(masked(bytes));
}

fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `RecordWriter(file).write(b"\x1a\x0dbrain.Event:2")` of tensorboard 2.21.
    #[test]
    fn a_record_has_the_bytes_that_tensorboard_writes() {
        let mut file = Vec::new();
        push(&mut file, b"\x1a\x0dbrain.Event:2");
        assert_eq!(hex::encode(file), "0f000000000000006d532b091a0d627261696e2e4576656e743a32fc985129");
    }
}
