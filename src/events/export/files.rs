//! Events as files: NDJSON, one envelope per line, compressed with gzip; and Parquet, in row groups of bounded size.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::clock::Time;
use crate::error::{Error, Result};

/// A row group is written when it has so many rows or bytes.
const GROUP_ROWS: usize = 20_000;
const GROUP_BYTES: usize = 8 << 20;

const SCHEMA: &str = "message event {
    required binary id (STRING);
    required binary name (STRING);
    optional binary end_user_id (STRING);
    required int64 timestamp (TIMESTAMP(MILLIS, true));
    required boolean is_test;
    required binary event (STRING);
}";

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Ndjson,
    Parquet,
}

impl Format {
    /// The word in requests, in the database and behind the dot of a file's name.
    pub fn word(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Parquet => "parquet",
        }
    }

    pub fn parse(word: &str) -> Option<Format> {
        [Format::Ndjson, Format::Parquet].into_iter().find(|format| format.word() == word)
    }
}

/// An event as a row of a file.
#[derive(Clone, Debug)]
pub struct Line {
    pub id: String,
    pub name: String,
    pub end_user_id: Option<String>,
    pub timestamp: Time,
    pub is_test: bool,
    /// The envelope as JSON text.
    pub event: String,
}

/// Where the Parquet writer writes: bytes that are taken out again and again.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Both files of an hour, as far as they are written.
pub struct Files {
    ndjson: GzEncoder<Vec<u8>>,
    parquet: SerializedFileWriter<Sink>,
    sink: Sink,
    group: Group,
}

/// The bytes that were added to the files.
#[derive(Debug, Default)]
pub struct Written {
    pub ndjson: Vec<u8>,
    pub parquet: Vec<u8>,
}

impl Files {
    pub fn begin() -> Result<Files> {
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(broken)?);
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .set_created_by("cardwire".to_owned())
            .build();
        let sink = Sink::default();
        let parquet = SerializedFileWriter::new(sink.clone(), schema, Arc::new(properties)).map_err(broken)?;
        Ok(Files { ndjson: GzEncoder::new(Vec::new(), Compression::fast()), parquet, sink, group: Group::default() })
    }

    /// Adds events and gives what can be stored already. Takes processor time: not for a thread that others wait for.
    pub fn add(&mut self, lines: Vec<Line>) -> Result<Written> {
        for line in lines {
            self.ndjson.write_all(line.event.as_bytes()).map_err(Error::internal)?;
            self.ndjson.write_all(b"\n").map_err(Error::internal)?;
            self.group.add(line);
            if self.group.full() {
                self.close_group()?;
            }
        }
        Ok(Written { ndjson: std::mem::take(self.ndjson.get_mut()), parquet: std::mem::take(&mut *self.sink.0.lock()) })
    }

    /// Ends both files and gives the rest.
    pub fn end(mut self) -> Result<Written> {
        self.close_group()?;
        self.parquet.close().map_err(broken)?;
        let parquet = std::mem::take(&mut *self.sink.0.lock());
        Ok(Written { ndjson: self.ndjson.finish().map_err(Error::internal)?, parquet })
    }

    fn close_group(&mut self) -> Result<()> {
        if self.group.ids.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let mut writer = self.parquet.next_row_group().map_err(broken)?;
        group.write(&mut writer).map_err(broken)?;
        writer.close().map_err(broken)?;
        self.parquet.flush().map_err(Error::internal)
    }
}

fn broken(error: ParquetError) -> Error {
    Error::internal(error)
}

/// The columns of the rows that wait for their group to be full.
#[derive(Default)]
struct Group {
    ids: Vec<ByteArray>,
    names: Vec<ByteArray>,
    end_users: Vec<ByteArray>,
    /// 1 where a row has an end user, 0 where it has none.
    end_user_levels: Vec<i16>,
    timestamps: Vec<i64>,
    tests: Vec<bool>,
    events: Vec<ByteArray>,
    bytes: usize,
}

impl Group {
    fn add(&mut self, line: Line) {
        self.bytes += line.event.len();
        self.ids.push(line.id.into_bytes().into());
        self.names.push(line.name.into_bytes().into());
        self.end_user_levels.push(i16::from(line.end_user_id.is_some()));
        self.end_users.extend(line.end_user_id.map(|id| ByteArray::from(id.into_bytes())));
        self.timestamps.push(line.timestamp.as_millisecond());
        self.tests.push(line.is_test);
        self.events.push(line.event.into_bytes().into());
    }

    fn full(&self) -> bool {
        self.ids.len() >= GROUP_ROWS || self.bytes >= GROUP_BYTES
    }

    /// Writes the columns in the order of the schema.
    fn write(&self, to: &mut SerializedRowGroupWriter<'_, Sink>) -> Result<(), ParquetError> {
        let mut place = 0;
        while let Some(mut column) = to.next_column()? {
            match place {
                0 => column.typed::<ByteArrayType>().write_batch(&self.ids, None, None)?,
                1 => column.typed::<ByteArrayType>().write_batch(&self.names, None, None)?,
                2 => {
                    let levels = Some(self.end_user_levels.as_slice());
                    column.typed::<ByteArrayType>().write_batch(&self.end_users, levels, None)?
                }
                3 => column.typed::<Int64Type>().write_batch(&self.timestamps, None, None)?,
                4 => column.typed::<BoolType>().write_batch(&self.tests, None, None)?,
                _ => column.typed::<ByteArrayType>().write_batch(&self.events, None, None)?,
            };
            column.close()?;
            place += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    fn line(number: usize) -> Line {
        Line {
            id: format!("evt_{number}"),
            name: "card-published".to_owned(),
            end_user_id: (!number.is_multiple_of(3)).then(|| format!("user-{number}")),
            timestamp: Time::from_millisecond(1_767_225_600_000 + i64::try_from(number).unwrap()),
            is_test: number.is_multiple_of(2),
            event: format!("{{\"id\":\"evt_{number}\",\"text\":\"{}\"}}", "ä".repeat(number % 50)),
        }
    }

    #[test]
    fn what_is_written_is_read_back_over_several_row_groups() {
        let lines: Vec<Line> = (0..GROUP_ROWS + 1_000).map(line).collect();
        let mut files = Files::begin().unwrap();
        let mut written = Written::default();
        for batch in lines.chunks(700) {
            let more = files.add(batch.to_vec()).unwrap();
            written.ndjson.extend(more.ndjson);
            written.parquet.extend(more.parquet);
        }
        let rest = files.end().unwrap();
        written.ndjson.extend(rest.ndjson);
        written.parquet.extend(rest.parquet);

        let mut text = String::new();
        flate2::read::GzDecoder::new(written.ndjson.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, lines.iter().map(|line| format!("{}\n", line.event)).collect::<String>());

        let reader = SerializedFileReader::new(bytes::Bytes::from(written.parquet)).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let mut count = 0;
        for (row, line) in reader.get_row_iter(None).unwrap().zip(&lines) {
            let row = row.unwrap();
            assert_eq!((row.get_string(0).unwrap(), row.get_string(1).unwrap()), (&line.id, &line.name));
            assert_eq!(row.get_string(2).ok(), line.end_user_id.as_ref());
            assert_eq!(row.get_timestamp_millis(3).unwrap(), line.timestamp.as_millisecond());
            assert_eq!((row.get_bool(4).unwrap(), row.get_string(5).unwrap()), (line.is_test, &line.event));
            count += 1;
        }
        assert_eq!(count, lines.len());
    }
}
