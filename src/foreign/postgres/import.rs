//! What a PostgreSQL has: its tables, views and their columns.

use std::sync::Arc;

use crate::error::Result;
use crate::foreign::definition::{Found, Read, RemoteColumn, RemoteTable};
use crate::foreign::postgres::server::Server;
use crate::foreign::postgres::types::{Described, described};

/// Every column of every table, view and foreign table of a schema; of partitioned tables the whole, not its parts. Domains
/// are what they are made of.
const COLUMNS: &str = "
    SELECT c.relname::text, c.reltuples::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), base.typmod,
           t.typname::text, t.typtype::text, tn.nspname::text,
           coalesce(e.typname::text, ''), coalesce(e.typtype::text, ''), coalesce(en.nspname::text, ''),
           coalesce(to_jsonb(col) ->> 'collisdeterministic' = 'false', false)
    FROM pg_namespace n
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN LATERAL (
        WITH RECURSIVE below(oid, typmod) AS (
            SELECT a.atttypid, a.atttypmod
            UNION ALL
            SELECT d.typbasetype, CASE WHEN d.typtypmod = -1 THEN below.typmod ELSE d.typtypmod END
            FROM below JOIN pg_type d ON d.oid = below.oid AND d.typtype = 'd'
        )
        SELECT below.oid, below.typmod FROM below JOIN pg_type b ON b.oid = below.oid AND b.typtype <> 'd'
    ) AS base ON true
    LEFT JOIN pg_type t ON t.oid = base.oid
    LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
    LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    LEFT JOIN pg_namespace en ON en.oid = e.typnamespace
    LEFT JOIN pg_collation col ON col.oid = a.attcollation
    WHERE n.nspname::text = $1
    ORDER BY c.relname, a.attnum";

/// The tables and views of a schema over there that the user may see, by name; `None`: there is no such schema.
///
/// # Errors
/// 08001 if there is no way to the server.
pub async fn tables(server: &Arc<Server>, schema: &str) -> Result<Option<Vec<Found>>> {
    let connection = server.connect().await?;
    let rows = connection.rows(COLUMNS, schema).await?;
    let exists = match rows.is_empty() {
        true => !connection.rows("SELECT FROM pg_namespace WHERE nspname::text = $1", schema).await?.is_empty(),
        false => true,
    };
    connection.done();
    let mut found: Vec<Found> = Vec::new();
    for row in rows {
        let table: String = row.get(0);
        if found.last().is_none_or(|last| last.table.table != table) {
            let counted: i64 = row.get(1);
            found.push(Found {
                table: RemoteTable {
                    schema: schema.to_owned(),
                    table,
                    columns: Vec::new(),
                    // Never counted: -1, and 0 before PostgreSQL 14.
                    rows: u64::try_from(counted).ok().filter(|rows| *rows > 0),
                },
                unreadable: Vec::new(),
            });
        }
        let (Some(last), Some(column)) = (found.last_mut(), row.get::<_, Option<String>>(2)) else { continue };
        let column_type = Described {
            typmod: row.get(4),
            name: row.get(5),
            kind: row.get(6),
            schema: row.get(7),
            element: row.get(8),
            element_kind: row.get(9),
            element_schema: row.get(10),
        };
        let read = match (column_type.is_compared_as_it_is(), row.get(11)) {
            (true, false) => Read::AsItIs,
            (true, true) => Read::Collated,
            (false, _) => Read::AsText,
        };
        match described(&column_type) {
            Some(of) => last.table.columns.push(RemoteColumn { name: column.clone(), remote: column, of, read }),
            None => last.unreadable.push((column, row.get(3))),
        }
    }
    Ok(exists.then_some(found))
}
