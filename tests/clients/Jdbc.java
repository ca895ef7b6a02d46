// JDBC: pgjdbc's metadata, parameters, arrays and errors.
import java.math.BigDecimal;
import java.sql.*;
import java.util.*;

public class Jdbc {
    interface Work { void run() throws Exception; }

    static int failed = 0;

    static void check(String claim, Work work) {
        try {
            work.run();
            System.out.println("ok " + claim);
        } catch (Throwable error) {
            failed += 1;
            System.out.println("not ok " + claim + ": " + String.valueOf(error).replaceAll("\\s+", " "));
        }
    }

    static void same(Object found, Object expected) {
        if (!Objects.equals(found, expected)) throw new AssertionError(found + " is not " + expected);
    }

    static List<String> column(ResultSet rows, String... names) throws SQLException {
        List<String> found = new ArrayList<>();
        while (rows.next()) {
            StringJoiner row = new StringJoiner("|");
            for (String name : names) row.add(String.valueOf(rows.getObject(name)));
            found.add(row.toString());
        }
        return found;
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> env = System.getenv();
        String url = "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE");
        Properties login = new Properties();
        login.setProperty("user", env.get("PGUSER"));
        Connection connection = DriverManager.getConnection(url, login);
        DatabaseMetaData about = connection.getMetaData();

        check("getTables", () -> {
            same(column(about.getTables(null, "clients", "%", new String[] {"TABLE", "VIEW"}), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE", "REMARKS"),
                List.of("clients|people|TABLE|those who buy", "clients|active_people|VIEW|null"));
            about.getTables(null, null, null, null).close();
        });
        check("getColumns", () -> {
            List<String> found = column(about.getColumns(null, "clients", "people", "%"), "COLUMN_NAME", "TYPE_NAME", "COLUMN_SIZE", "NULLABLE", "ORDINAL_POSITION");
            same(found.get(0), "id|int8|19|0|1");
            same(found.get(6), "spent|numeric|12|1|7");
            same(found.get(12), "tags|_text|2147483647|1|13");
            same(found.size(), 14);
        });
        check("getColumns gives data types and comments", () -> {
            ResultSet rows = about.getColumns(null, "clients", "people", "name");
            rows.next();
            same(rows.getInt("DATA_TYPE"), Types.VARCHAR);
            same(rows.getString("REMARKS"), "as they write it");
        });
        check("getSchemas, getCatalogs, getTableTypes", () -> {
            if (!column(about.getSchemas(), "TABLE_SCHEM").containsAll(List.of("clients", "public"))) throw new AssertionError("a schema is missing");
            if (!column(about.getCatalogs(), "TABLE_CAT").contains(env.get("PGDATABASE"))) throw new AssertionError("the database is missing");
            column(about.getTableTypes(), "TABLE_TYPE");
        });
        check("getPrimaryKeys, getIndexInfo, getImportedKeys, getExportedKeys find nothing", () -> {
            same(column(about.getPrimaryKeys(null, "clients", "people"), "COLUMN_NAME"), List.of());
            same(column(about.getIndexInfo(null, "clients", "people", false, false), "INDEX_NAME"), List.of());
            same(column(about.getImportedKeys(null, "clients", "people"), "FKTABLE_NAME"), List.of());
            same(column(about.getExportedKeys(null, "clients", "people"), "FKTABLE_NAME"), List.of());
            same(column(about.getBestRowIdentifier(null, "clients", "people", DatabaseMetaData.bestRowSession, true), "COLUMN_NAME"), List.of());
        });
        check("getTypeInfo, getFunctions, getProcedures, getTablePrivileges, getSQLKeywords", () -> {
            about.getTypeInfo().close();
            about.getFunctions(null, null, "%").close();
            about.getProcedures(null, null, "%").close();
            about.getTablePrivileges(null, "clients", "people").close();
            about.getSQLKeywords();
            about.getMaxConnections();
        });
        check("a row of every type", () -> {
            PreparedStatement query = connection.prepareStatement("SELECT * FROM clients.people WHERE id = ?");
            query.setLong(1, 1);
            for (int turn = 0; turn < 7; turn++) {
                ResultSet row = query.executeQuery();
                row.next();
                same(row.getLong("id"), 1L);
                same(row.getString("name"), "Ann");
                same(row.getBigDecimal("spent"), new BigDecimal("12.50"));
                same(row.getBoolean("active"), true);
                same(row.getDate("born").toString(), "1980-02-29");
                same(row.getTimestamp("seen").toString(), "2024-01-02 03:04:05.0");
                same(row.getTimestamp("joined").toInstant().toString(), "2024-01-02T03:04:05Z");
                same(Arrays.asList((String[]) row.getArray("tags").getArray()), List.of("a", "b"));
                same(row.getBytes("data").length, 3);
            }
        });
        check("parameters of every type", () -> {
            PreparedStatement query = connection.prepareStatement("SELECT ?::int, ?::text, ?::float8, ?::numeric, ?::date, ?::timestamp, ?::bigint[]");
            query.setInt(1, 1);
            query.setString(2, "it's");
            query.setDouble(3, 1.5);
            query.setBigDecimal(4, new BigDecimal("1.25"));
            query.setDate(5, java.sql.Date.valueOf("2024-02-29"));
            query.setTimestamp(6, Timestamp.valueOf("2024-01-01 12:00:00"));
            query.setArray(7, connection.createArrayOf("bigint", new Long[] {1L, 2L}));
            ResultSet row = query.executeQuery();
            row.next();
            same(row.getInt(1) + row.getString(2) + row.getDouble(3) + row.getDate(5) + row.getTimestamp(6), "1it's1.52024-02-292024-01-01 12:00:00.0");
            same(Arrays.asList((Long[]) row.getArray(7).getArray()), List.of(1L, 2L));
        });
        check("metadata of a result", () -> {
            ResultSetMetaData columns = connection.prepareStatement("SELECT id, spent, count(*) OVER () FROM clients.people").executeQuery().getMetaData();
            same(columns.getColumnName(1) + columns.getColumnTypeName(1) + columns.getPrecision(2) + columns.getScale(2) + columns.getColumnLabel(3), "idint8122count");
        });
        check("batches and update counts", () -> {
            Statement statement = connection.createStatement();
            statement.execute("DROP TABLE IF EXISTS clients.jdbc");
            same(statement.executeUpdate("CREATE TABLE clients.jdbc (a int, b text)"), 0);
            PreparedStatement insert = connection.prepareStatement("INSERT INTO clients.jdbc VALUES (?, ?)");
            for (int n = 0; n < 3; n++) {
                insert.setInt(1, n);
                insert.setString(2, "row " + n);
                insert.addBatch();
            }
            same(Arrays.toString(insert.executeBatch()), "[1, 1, 1]");
            statement.execute("DROP TABLE clients.jdbc");
        });
        check("transactions, isolation and errors", () -> {
            connection.setAutoCommit(false);
            same(connection.getTransactionIsolation(), Connection.TRANSACTION_READ_COMMITTED);
            connection.setReadOnly(false);
            try {
                connection.createStatement().executeQuery("SELECT * FROM nowhere");
                throw new AssertionError("there is no such table");
            } catch (SQLException error) {
                same(error.getSQLState(), "42P01");
            }
            connection.rollback();
            connection.setAutoCommit(true);
            if (!connection.isValid(5)) throw new AssertionError("not valid");
        });
        connection.close();
        System.exit(failed > 0 ? 1 : 0);
    }
}
