//! Observations as a Parquet file, for notebooks and `DuckDB`: a flat row each, in groups, compressed by zstd. A feature of its own, so
//! that nobody else pays its build.
//!
//! What of an observation has no column, such as a tunnel's state or evidence, is in the column `json`: its line. The column `time` is `at`,
//! which SQL takes for a word of its own.

use std::io::Write;
use std::sync::Arc;

use crosswatch_shared::observation::{Body, Observation, Origin, Outcome};
use crosswatch_shared::wire::encode_row;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

/// The columns, in this order; what is absent of an observation is null.
const SCHEMA: &str = "message observation {
    REQUIRED INT64 time (TIMESTAMP(MICROS, true));
    REQUIRED BYTE_ARRAY kind (STRING);
    REQUIRED BYTE_ARRAY site (STRING);
    REQUIRED BYTE_ARRAY collector (STRING);
    REQUIRED BYTE_ARRAY boot (STRING);
    REQUIRED INT64 seq;
    OPTIONAL BYTE_ARRAY link (STRING);
    OPTIONAL BYTE_ARRAY probe (STRING);
    OPTIONAL DOUBLE rtt_ms;
    OPTIONAL BYTE_ARRAY lost (STRING);
    OPTIONAL BYTE_ARRAY vpn (STRING);
    OPTIONAL INT64 tunnels_up;
    OPTIONAL BYTE_ARRAY source (STRING);
    OPTIONAL BOOLEAN ok;
    OPTIONAL DOUBLE took_ms;
    OPTIONAL BYTE_ARRAY json (STRING);
}";

/// How many rows a group has: some megabytes while it is gathered.
const GROUP: usize = 65_536;

/// See the module.
pub struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    rows: Vec<Row>,
}

/// A row; what is absent is null.
#[derive(Default)]
struct Row {
    at: i64,
    kind: &'static str,
    origin: Option<Origin>,
    seq: i64,
    link: Option<ByteArray>,
    probe: Option<ByteArray>,
    rtt_ms: Option<f64>,
    lost: Option<ByteArray>,
    vpn: Option<ByteArray>,
    tunnels_up: Option<i64>,
    source: Option<ByteArray>,
    ok: Option<bool>,
    took_ms: Option<f64>,
    row: Option<ByteArray>,
}

impl<W: Write + Send> Table<W> {
    /// Begins the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(out: W) -> Result<Self, ParquetError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        Ok(Self { writer: SerializedFileWriter::new(out, schema, Arc::new(properties))?, rows: Vec::new() })
    }

    /// Writes an observation, at the latest with the file's end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, origin: &Origin, observation: &Observation) -> Result<(), ParquetError> {
        self.rows.push(row(origin, observation));
        if self.rows.len() >= GROUP { self.group() } else { Ok(()) }
    }

    /// Ends the file: without that it cannot be read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(mut self) -> Result<W, ParquetError> {
        self.group()?;
        self.writer.into_inner()
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let text = |text: &str| Some(ByteArray::from(text));
        let of = |of: fn(&Origin) -> &str| {
            move |row: &Row| row.origin.as_ref().map(|origin| ByteArray::from(of(origin)))
        };
        let mut columns = Columns { group: &mut group, rows: &rows };
        columns.write::<Int64Type>(true, |row| Some(row.at))?;
        columns.write::<ByteArrayType>(true, |row| text(row.kind))?;
        columns.write::<ByteArrayType>(true, of(|origin| &origin.site))?;
        columns.write::<ByteArrayType>(true, of(|origin| &origin.collector))?;
        columns.write::<ByteArrayType>(true, of(|origin| &origin.boot))?;
        columns.write::<Int64Type>(true, |row| Some(row.seq))?;
        columns.write::<ByteArrayType>(false, |row| row.link.clone())?;
        columns.write::<ByteArrayType>(false, |row| row.probe.clone())?;
        columns.write::<DoubleType>(false, |row| row.rtt_ms)?;
        columns.write::<ByteArrayType>(false, |row| row.lost.clone())?;
        columns.write::<ByteArrayType>(false, |row| row.vpn.clone())?;
        columns.write::<Int64Type>(false, |row| row.tunnels_up)?;
        columns.write::<ByteArrayType>(false, |row| row.source.clone())?;
        columns.write::<BoolType>(false, |row| row.ok)?;
        columns.write::<DoubleType>(false, |row| row.took_ms)?;
        columns.write::<ByteArrayType>(false, |row| row.row.clone())?;
        group.close()?;
        Ok(())
    }
}

/// The columns of a group, written one after the other.
struct Columns<'a, 'b, W: Write + Send> {
    group: &'a mut SerializedRowGroupWriter<'b, W>,
    rows: &'a [Row],
}

impl<W: Write + Send> Columns<'_, '_, W> {
    fn write<T: DataType>(
        &mut self,
        required: bool,
        of: impl Fn(&Row) -> Option<T::T>,
    ) -> Result<(), ParquetError> {
        let missing = || ParquetError::General("the schema has fewer columns than are written".to_owned());
        let mut column = self.group.next_column()?.ok_or_else(missing)?;
        let values: Vec<Option<T::T>> = self.rows.iter().map(of).collect();
        let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
        let values: Vec<T::T> = values.into_iter().flatten().collect();
        column.typed::<T>().write_batch(&values, (!required).then_some(&levels[..]), None)?;
        column.close()
    }
}

fn row(origin: &Origin, observation: &Observation) -> Row {
    let name = |name: &str| Some(ByteArray::from(name));
    let whole = || Some(ByteArray::from(encode_row(origin, observation).into_bytes()));
    let row = Row {
        at: observation.at.as_micros(),
        origin: Some(origin.clone()),
        seq: i64::try_from(observation.seq).unwrap_or(i64::MAX),
        ..Row::default()
    };
    match &observation.body {
        Body::Probe { link, probe, outcome, detail } => {
            let (rtt_ms, lost) = match outcome {
                Outcome::Reply { rtt_ms } => (Some(*rtt_ms), None),
                Outcome::Lost(lost) => (None, name(lost.word())),
            };
            let rest = detail.as_ref().and_then(|_| whole());
            Row { kind: "probe", link: name(link), probe: name(probe), rtt_ms, lost, row: rest, ..row }
        }
        Body::Tunnels { link, vpn, tunnels } => {
            let up = tunnels.iter().filter(|tunnel| tunnel.up).count();
            let tunnels_up = (!tunnels.is_empty()).then_some(up as i64);
            Row { kind: "tunnels", link: name(link), vpn: name(vpn), tunnels_up, row: whole(), ..row }
        }
        Body::Evidence { link, probe, .. } => {
            Row { kind: "evidence", link: name(link), probe: name(probe), row: whole(), ..row }
        }
        Body::Drill { .. } => Row { kind: "drill", row: whole(), ..row },
        Body::Collection { source, ok, error, took_ms } => Row {
            kind: "collection",
            source: name(source),
            ok: Some(*ok),
            took_ms: Some(*took_ms),
            row: error.as_ref().and_then(|_| whole()),
            ..row
        },
    }
}
