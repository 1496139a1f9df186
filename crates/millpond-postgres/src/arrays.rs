//! Values as PostgreSQL takes and gives them: JSON as text, and a column of many rows as one array.

use bytes::BytesMut;
use millpond_core::{FieldKind, FieldValue, Scalar, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::call::Call;

type Anyhow = Box<dyn std::error::Error + Sync + Send>;

/// JSON that is passed on as the text it is.
#[derive(Debug)]
pub(crate) struct JsonText<'a>(pub(crate) &'a str);

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Anyhow> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSON
    }

    to_sql_checked!();
}

/// JSON as it comes out of a row.
pub(crate) struct JsonColumn<'a>(pub(crate) &'a str);

impl<'a> FromSql<'a> for JsonColumn<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Anyhow> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSON
    }
}

/// The type of a declared field's column.
pub(crate) fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text | FieldKind::TextSet => "text COLLATE \"C\"",
        FieldKind::Integer | FieldKind::Timestamp => "bigint",
        FieldKind::Real => "double precision",
        FieldKind::Bool => "boolean",
    }
}

/// The type of an array of a declared field's values.
pub(crate) fn array_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text | FieldKind::TextSet => "text[]",
        FieldKind::Integer | FieldKind::Timestamp => "int8[]",
        FieldKind::Real => "float8[]",
        FieldKind::Bool => "bool[]",
    }
}

/// A column's values, or none where no row has one: `unnest` of several arrays fills a short one up with NULL, at no cost.
pub(crate) fn sparse<T>(values: impl IntoIterator<Item = Option<T>>) -> Vec<Option<T>> {
    let values: Vec<Option<T>> = values.into_iter().collect();
    if values.iter().all(Option::is_none) { Vec::new() } else { values }
}

/// The values of one column, a row each.
pub(crate) enum Column<'a> {
    Text(Vec<Option<&'a str>>),
    Integer(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Bool(Vec<Option<bool>>),
}

impl<'a> Column<'a> {
    pub(crate) fn of(kind: FieldKind, rows: usize) -> Self {
        match kind {
            FieldKind::Text | FieldKind::TextSet => Self::Text(Vec::with_capacity(rows)),
            FieldKind::Integer | FieldKind::Timestamp => Self::Integer(Vec::with_capacity(rows)),
            FieldKind::Real => Self::Real(Vec::with_capacity(rows)),
            FieldKind::Bool => Self::Bool(Vec::with_capacity(rows)),
        }
    }

    /// Adds a row's value; what is not of the column's type is NULL, as a plan never gives it.
    pub(crate) fn push(&mut self, value: &'a FieldValue) {
        let scalar = if let FieldValue::Scalar(scalar) = value { Some(scalar) } else { None };
        match self {
            Self::Text(list) => list.push(scalar.and_then(|s| if let Scalar::Text(t) = s { Some(t.as_str()) } else { None })),
            Self::Integer(list) => list.push(scalar.and_then(integer)),
            Self::Real(list) => list.push(scalar.and_then(|s| if let Scalar::Real(f) = s { Some(*f) } else { None })),
            Self::Bool(list) => list.push(scalar.and_then(|s| if let Scalar::Bool(b) = s { Some(*b) } else { None })),
        }
    }

    /// Adds the column to a statement's values.
    pub(crate) fn bind(self, call: Call<'a>) -> Call<'a> {
        match self {
            Self::Text(list) => call.with(Type::TEXT_ARRAY, sparse(list)),
            Self::Integer(list) => call.with(Type::INT8_ARRAY, sparse(list)),
            Self::Real(list) => call.with(Type::FLOAT8_ARRAY, sparse(list)),
            Self::Bool(list) => call.with(Type::BOOL_ARRAY, sparse(list)),
        }
    }
}

fn integer(scalar: &Scalar) -> Option<i64> {
    match scalar {
        Scalar::Integer(i) => Some(*i),
        Scalar::Timestamp(t) => Some(t.as_micros()),
        _ => None,
    }
}

/// Binds one scalar and returns its place.
pub(crate) fn bind_scalar(call: &mut Call<'_>, scalar: &Scalar) -> String {
    match scalar {
        Scalar::Text(t) => call.bind(Type::TEXT, t.clone()),
        Scalar::Integer(i) => call.bind(Type::INT8, *i),
        Scalar::Real(f) => call.bind(Type::FLOAT8, *f),
        Scalar::Bool(b) => call.bind(Type::BOOL, *b),
        Scalar::Timestamp(t) => call.bind(Type::INT8, t.as_micros()),
    }
}

/// Binds scalars of one kind as an array and returns its place.
pub(crate) fn bind_scalars(call: &mut Call<'_>, kind: FieldKind, scalars: &[Scalar]) -> String {
    match kind {
        FieldKind::Text | FieldKind::TextSet => {
            let texts = scalars.iter().filter_map(|s| if let Scalar::Text(t) = s { Some(t.clone()) } else { None });
            call.bind(Type::TEXT_ARRAY, texts.collect::<Vec<_>>())
        }
        FieldKind::Integer | FieldKind::Timestamp => {
            call.bind(Type::INT8_ARRAY, scalars.iter().filter_map(integer).collect::<Vec<_>>())
        }
        FieldKind::Real => {
            let reals = scalars.iter().filter_map(|s| if let Scalar::Real(f) = s { Some(*f) } else { None });
            call.bind(Type::FLOAT8_ARRAY, reals.collect::<Vec<_>>())
        }
        FieldKind::Bool => {
            let bools = scalars.iter().filter_map(|s| if let Scalar::Bool(b) = s { Some(*b) } else { None });
            call.bind(Type::BOOL_ARRAY, bools.collect::<Vec<_>>())
        }
    }
}

/// A column of a row as a scalar of the field's kind; `None` for NULL.
pub(crate) fn scalar(row: &Row, at: usize, kind: FieldKind) -> Result<Option<Scalar>, tokio_postgres::Error> {
    Ok(match kind {
        FieldKind::Text | FieldKind::TextSet => row.try_get::<_, Option<String>>(at)?.map(Scalar::Text),
        FieldKind::Integer => row.try_get::<_, Option<i64>>(at)?.map(Scalar::Integer),
        FieldKind::Real => row.try_get::<_, Option<f64>>(at)?.map(Scalar::Real),
        FieldKind::Bool => row.try_get::<_, Option<bool>>(at)?.map(Scalar::Bool),
        FieldKind::Timestamp => row.try_get::<_, Option<i64>>(at)?.map(|t| Scalar::Timestamp(Timestamp::from_micros(t))),
    })
}
