//! How a catalog of each format becomes one of the next.

/// What to run on a catalog of format 0, 1, …; one entry per format, never edited once released.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE schemas (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE relations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- names the folder below tables/
        schema_id INTEGER NOT NULL REFERENCES schemas ON DELETE CASCADE,
        name TEXT NOT NULL,
        view_sql TEXT,                          -- NULL: a table
        columns BLOB NOT NULL,                  -- an Arrow schema, as an IPC stream without rows
        comment TEXT,
        version INTEGER NOT NULL DEFAULT 1,     -- one more with each commit
        UNIQUE (schema_id, name)
    ) STRICT;
    CREATE TABLE table_files (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of the commits
        table_id INTEGER NOT NULL REFERENCES relations ON DELETE CASCADE,
        name TEXT NOT NULL,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        UNIQUE (table_id, name)
    ) STRICT;
    CREATE TABLE models (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- names the folder below models/
        schema_id INTEGER NOT NULL REFERENCES schemas ON DELETE CASCADE,
        name TEXT NOT NULL,
        default_version INTEGER NOT NULL,
        next_version INTEGER NOT NULL,          -- grows for ever: a number is never used twice
        created INTEGER NOT NULL,               -- microseconds since 1970, UTC
        UNIQUE (schema_id, name)
    ) STRICT;
    CREATE TABLE model_versions (
        model_id INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        version INTEGER NOT NULL,
        model_type TEXT NOT NULL,
        failure TEXT,                           -- NULL: ready
        created INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        hash TEXT NOT NULL,                     -- checksum of manifest.json, which holds those of the parts
        facts TEXT NOT NULL,                    -- JSON
        PRIMARY KEY (model_id, version)
    ) STRICT;
    INSERT INTO schemas (name) VALUES ('public');
",
    "
    CREATE TABLE roles (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- an OID for clients: those of Postgres are below 16384
        name TEXT NOT NULL UNIQUE,
        superuser INTEGER NOT NULL,
        login INTEGER NOT NULL,
        create_role INTEGER NOT NULL,
        inherit INTEGER NOT NULL,
        bypass_rls INTEGER NOT NULL,
        connection_limit INTEGER,               -- NULL: none
        verifier TEXT,                          -- SCRAM-SHA-256$4096:salt$StoredKey:ServerKey; NULL: no password
        valid_until INTEGER                     -- microseconds since 1970, UTC
    ) STRICT;
    CREATE TABLE memberships (
        role_id INTEGER NOT NULL REFERENCES roles ON DELETE CASCADE,
        member_id INTEGER NOT NULL REFERENCES roles ON DELETE CASCADE,
        admin INTEGER NOT NULL,
        PRIMARY KEY (role_id, member_id)
    ) STRICT;
    CREATE TABLE grants (
        object_kind TEXT NOT NULL,              -- database, schema, relation, model
        object_id INTEGER NOT NULL,
        column_name TEXT NOT NULL,              -- empty: the whole object
        grantee INTEGER NOT NULL,               -- 0: PUBLIC
        privilege TEXT NOT NULL,
        grantable INTEGER NOT NULL,
        PRIMARY KEY (object_kind, object_id, column_name, grantee, privilege)
    ) STRICT;
    CREATE TABLE default_grants (               -- what is granted on what is yet to be made
        owner INTEGER NOT NULL,                 -- by whom
        schema_id INTEGER NOT NULL,             -- 0: in any
        object_kind TEXT NOT NULL,
        grantee INTEGER NOT NULL,
        privilege TEXT NOT NULL,
        grantable INTEGER NOT NULL,
        PRIMARY KEY (owner, schema_id, object_kind, grantee, privilege)
    ) STRICT;
    CREATE TABLE policies (
        relation_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        restrictive INTEGER NOT NULL,
        roles TEXT NOT NULL,                    -- JSON: numbers, 0 for PUBLIC
        using_sql TEXT NOT NULL,
        PRIMARY KEY (relation_id, name)
    ) STRICT;
    CREATE TABLE login (mock_key BLOB NOT NULL) STRICT;
    ALTER TABLE schemas ADD COLUMN owner INTEGER NOT NULL DEFAULT 10;
    ALTER TABLE relations ADD COLUMN owner INTEGER NOT NULL DEFAULT 10;
    ALTER TABLE relations ADD COLUMN row_security INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE models ADD COLUMN owner INTEGER NOT NULL DEFAULT 10;
    INSERT INTO login VALUES (randomblob(32));
    INSERT INTO roles VALUES (10, 'cohort', 1, 1, 1, 1, 1, NULL, NULL, NULL);
    UPDATE sqlite_sequence SET seq = 16383 WHERE name = 'roles';
    INSERT INTO grants VALUES ('database', 0, '', 0, 'CONNECT', 0), ('database', 0, '', 0, 'TEMPORARY', 0);
    INSERT INTO grants SELECT 'schema', id, '', 0, 'USAGE', 0 FROM schemas WHERE name = 'public';
",
    "
    ALTER TABLE relations ADD COLUMN external TEXT; -- JSON: where its rows are; NULL: here, or in a view's query
",
    "
    CREATE TABLE foreign_servers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        wrapper TEXT NOT NULL,                  -- postgres, mysql
        options TEXT NOT NULL,                  -- JSON: what anybody may see
        sealed BLOB                             -- JSON, encrypted: what nobody may
    ) STRICT;
    CREATE TABLE user_mappings (
        server_id INTEGER NOT NULL REFERENCES foreign_servers ON DELETE CASCADE,
        role_id INTEGER NOT NULL,               -- 0: everybody who has none
        options TEXT NOT NULL,
        sealed BLOB,
        PRIMARY KEY (server_id, role_id)
    ) STRICT;
",
    "
    CREATE TABLE table_versions (
        table_id INTEGER NOT NULL REFERENCES relations ON DELETE CASCADE,
        version INTEGER NOT NULL,
        operation TEXT NOT NULL,
        committed INTEGER NOT NULL,             -- microseconds since 1970, UTC; later versions are later
        inserted INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        columns BLOB,                           -- NULL: as in the version before
        PRIMARY KEY (table_id, version)
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE relations ADD COLUMN readable_from INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE table_files ADD COLUMN added INTEGER NOT NULL DEFAULT 1;    -- the first version that has it
    ALTER TABLE table_files ADD COLUMN removed INTEGER;                     -- the first that has it no more
    UPDATE relations SET readable_from = version;
    INSERT INTO table_versions
        SELECT id, version, 'UPGRADE', CAST(unixepoch('subsec') * 1000000 AS INTEGER), 0, 0, 0, columns
        FROM relations WHERE view_sql IS NULL AND external IS NULL;
    UPDATE table_files SET added = (SELECT version FROM relations WHERE id = table_id);
",
    "
    ALTER TABLE table_files ADD COLUMN partition TEXT; -- JSON: texts or null, a column that the table is partitioned by each
",
    "
    CREATE TABLE policies_for_commands (
        relation_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        command TEXT NOT NULL,                  -- ALL, SELECT, INSERT, UPDATE, DELETE
        restrictive INTEGER NOT NULL,
        roles TEXT NOT NULL,                    -- JSON: numbers, 0 for PUBLIC
        using_sql TEXT,
        check_sql TEXT,
        PRIMARY KEY (relation_id, name)
    ) STRICT;
    INSERT INTO policies_for_commands           -- until here policies were about reading, whatever they said
        SELECT relation_id, name, 'SELECT', restrictive, roles, using_sql, NULL FROM policies;
    DROP TABLE policies;
    ALTER TABLE policies_for_commands RENAME TO policies;
",
    "
    ALTER TABLE roles ADD COLUMN statement_limit INTEGER;   -- that run at once; NULL: none
    ALTER TABLE roles ADD COLUMN memory_limit INTEGER;      -- bytes; NULL: none
",
];
