//! What a MySQL has: its tables, views and their columns.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::foreign::definition::{Found, Read, RemoteColumn, RemoteTable};
use crate::foreign::mysql::types::{Described, described};
use crate::foreign::types::RemoteType;

/// Every column of every table and view of a database. Names that differ by their case alone are two where the system has
/// it so.
const COLUMNS: &str = "
    SELECT CONVERT(t.table_name USING utf8mb4), CAST(t.table_rows AS UNSIGNED), CONVERT(c.column_name USING utf8mb4),
           CONVERT(c.data_type USING utf8mb4), CONVERT(c.column_type USING utf8mb4),
           CAST(c.numeric_precision AS UNSIGNED), CAST(c.numeric_scale AS UNSIGNED)
    FROM information_schema.tables t
    LEFT JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name
    WHERE t.table_schema = ? AND CAST(t.table_schema AS BINARY) = CAST(? AS BINARY)
      AND t.table_type IN ('BASE TABLE', 'VIEW', 'SYSTEM VIEW', 'SYSTEM VERSIONED')
    ORDER BY CAST(t.table_name AS BINARY), c.ordinal_position";

const SCHEMA: &str = "SELECT 1 FROM information_schema.schemata WHERE CAST(schema_name AS BINARY) = CAST(? AS BINARY)";

type Row = (String, Option<u64>, Option<String>, Option<String>, Option<String>, Option<u64>, Option<u64>);

/// The tables and views of a database over there that the user may see, by name; `None`: there is no such database.
pub async fn tables(connection: &mut Conn, schema: &str) -> mysql_async::Result<Option<Vec<Found>>> {
    let rows: Vec<Row> = connection.exec(COLUMNS, (schema, schema)).await?;
    if rows.is_empty() {
        let exists: Option<u8> = connection.exec_first(SCHEMA, (schema,)).await?;
        return Ok(exists.map(|_| Vec::new()));
    }
    let mut found: Vec<Found> = Vec::new();
    for (table, counted, column, name, whole, precision, scale) in rows {
        if found.last().is_none_or(|last| last.table.table != table) {
            let rows = counted.filter(|rows| *rows > 0);
            let table = RemoteTable { schema: schema.to_owned(), table, columns: Vec::new(), rows };
            found.push(Found { table, unreadable: Vec::new() });
        }
        let (Some(last), Some(column), Some(name), Some(whole)) = (found.last_mut(), column, name, whole) else {
            continue;
        };
        let column_type = Described { name, whole, precision, scale };
        match described(&column_type) {
            Some(scalar) => {
                let of = RemoteType::scalar(scalar);
                let column = RemoteColumn { name: column.clone(), remote: column, of, read: Read::AsItIs };
                last.table.columns.push(column);
            }
            None => last.unreadable.push((column, column_type.whole)),
        }
    }
    Ok(Some(found))
}
