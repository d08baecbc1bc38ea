// Drives a node through pgJDBC: java -cp postgresql.jar Drive.java HOST PORT.
// Each check is independent; the program prints what failed and exits with 1.
import java.io.*;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGInterval;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Drive {
    static String base;
    static int failed = 0;

    interface Check { void run() throws Exception; }

    static void check(String name, Check c) {
        try {
            c.run();
            System.out.println("ok   " + name);
        } catch (Throwable e) {
            failed++;
            System.out.println("FAIL " + name + ": " + e);
            for (StackTraceElement f : e.getStackTrace())
                if (f.getClassName().startsWith("Drive")) System.out.println("       at line " + f.getLineNumber());
        }
    }

    static void eq(Object got, Object want) {
        boolean same = got instanceof byte[] ? Arrays.equals((byte[]) got, (byte[]) want) : Objects.equals(got, want);
        if (!same) throw new AssertionError("got " + brief(got) + ", want " + brief(want));
    }

    static String brief(Object o) {
        String s = String.valueOf(o);
        return s.length() > 2000 ? s.substring(0, 100) + "..." : s;
    }

    static Connection open(String options) throws SQLException { return DriverManager.getConnection(base + options); }

    static void exec(Connection c, String... statements) throws SQLException {
        try (Statement s = c.createStatement()) { for (String q : statements) s.execute(q); }
    }

    static String value(Connection c, String q) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(q)) { r.next(); return r.getString(1); }
    }

    static PSQLException fails(String state, Check c) throws Exception {
        try { c.run(); } catch (PSQLException e) { eq(e.getSQLState(), state); return e; }
        throw new AssertionError("no error, want " + state);
    }

    public static void main(String[] args) throws Exception {
        base = "jdbc:postgresql://" + args[0] + ":" + args[1] + "/defaultdb?user=root&password=unused";
        try (Connection c = open("&sslmode=disable")) { exec(c, "DROP SCHEMA IF EXISTS j CASCADE", "CREATE SCHEMA j", "CREATE TYPE j.mood AS ENUM ('sad', 'happy')"); }
        for (String mode : new String[] {"prefer", "disable", "allow"})
            check("connect sslmode=" + mode, () -> { try (Connection c = open("&sslmode=" + mode)) { eq(c.isValid(5), true); eq(value(c, "SELECT 1"), "1"); } });
        for (String o : new String[] {"&prepareThreshold=0", "&prepareThreshold=1", "&prepareThreshold=-1", "", "&preferQueryMode=simple", "&preferQueryMode=extendedForPrepared", "&preferQueryMode=extendedCacheEverything", "&binaryTransfer=false", "&prepareThreshold=1&binaryTransferEnable=numeric,uuid,date,timestamp,timestamptz,time,timetz,int4,text,bytea,bool,float8,oid"})
            check("types" + o, () -> types(o));
        check("batches", Drive::batches);
        check("batches rewritten", () -> { try (Connection c = open("&reWriteBatchedInserts=true")) { batch(c, "b2"); } });
        check("generated keys", Drive::generatedKeys);
        for (String o : new String[] {"", "&autosave=always", "&autosave=conservative"}) check("transactions" + o, () -> transactions(o));
        check("retry on 40001", Drive::retry);
        check("cursor", Drive::cursor);
        check("copy", Drive::copy);
        check("cancel and timeout", Drive::cancel);
        check("errors", Drive::errors);
        check("notices", Drive::notices);
        check("plan survives DDL", Drive::ddl);
        check("time zones", Drive::zones);
        check("wide and many", Drive::huge);
        check("arrays", Drive::arrays);
        check("updatable result set", Drive::updatable);
        check("callable", Drive::callable);
        check("metadata", Drive::metadata);
        check("metadata all", Drive::metadataAll);
        check("catalog and schema", Drive::catalog);
        check("churn", Drive::churn);
        check("multiple statements", Drive::multi);
        check("listen", Drive::listen);
        if (failed > 0) { System.out.println(failed + " checks failed"); System.exit(1); }
    }

    static void types(String options) throws Exception {
        boolean simple = options.contains("=simple"); // in which the driver has no literal for bytes
        try (Connection c = open(options)) {
            exec(c, "SET TIME ZONE 'UTC'", "SET search_path = j, public", "DROP TABLE IF EXISTS j.t",
                "CREATE TABLE j.t (id INT PRIMARY KEY, i2 INT2, i4 INT4, i8 INT8, f4 FLOAT4, f8 FLOAT8, n NUMERIC(20,4), b BOOL, s TEXT, v VARCHAR(20), c CHAR(5), y BYTEA, d DATE, tm TIME, tz TIMETZ, ts TIMESTAMP, tstz TIMESTAMPTZ, iv INTERVAL, u UUID, ip INET, js JSONB, m j.mood, ai INT[], at TEXT[], bits VARBIT)");
            UUID u = UUID.fromString("01234567-89ab-cdef-0123-456789abcdef");
            OffsetDateTime at = OffsetDateTime.of(2024, 2, 29, 12, 30, 45, 123456000, ZoneOffset.UTC);
            try (PreparedStatement p = c.prepareStatement("INSERT INTO j.t VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?::timetz,?,?,?,?,?::inet,?::jsonb,?::j.mood,?,?,?::varbit)")) {
                for (int i = 0; i < 8; i++) {
                    int k = 1;
                    p.setInt(k++, i);
                    p.setShort(k++, (short) -7); p.setInt(k++, Integer.MIN_VALUE); p.setLong(k++, Long.MAX_VALUE);
                    p.setFloat(k++, 1.5f); p.setDouble(k++, Math.PI); p.setBigDecimal(k++, new BigDecimal("-1234567890.1234"));
                    p.setBoolean(k++, true); p.setString(k++, "grüße \" \\ ' 😀"); p.setString(k++, ""); p.setString(k++, "ab");
                    if (simple) p.setNull(k++, Types.BINARY); else p.setBytes(k++, new byte[] {0, -1, 1}); p.setObject(k++, LocalDate.of(1999, 12, 31)); p.setObject(k++, LocalTime.of(23, 59, 59, 999999000));
                    p.setString(k++, "12:00:00+02"); p.setObject(k++, LocalDateTime.of(2024, 2, 29, 1, 2, 3, 456000)); p.setObject(k++, at);
                    p.setObject(k++, new PGInterval(1, 2, -3, 4, 5, 6.5)); p.setObject(k++, u); p.setString(k++, "192.168.1.0/24");
                    p.setString(k++, "{\"a\": [1, null, \"x\"]}"); p.setString(k++, "happy");
                    p.setArray(k++, c.createArrayOf("int4", new Integer[] {1, null, -3})); p.setArray(k++, c.createArrayOf("text", new String[] {"a", "b c", "q\"\\", "", null}));
                    p.setString(k++, "10110");
                    eq(p.executeUpdate(), 1);
                }
                for (int k = 1; k <= 25; k++) p.setNull(k, Types.NULL);
                p.setInt(1, 100);
                eq(p.executeUpdate(), 1);
            }
            try (PreparedStatement p = c.prepareStatement("SELECT * FROM j.t WHERE id = ?")) {
                for (int i = 0; i < 8; i++) {
                    p.setInt(1, i);
                    try (ResultSet r = p.executeQuery()) {
                        eq(r.next(), true);
                        eq(r.getShort("i2"), (short) -7); eq(r.getInt("i4"), Integer.MIN_VALUE); eq(r.getLong("i8"), Long.MAX_VALUE);
                        eq(r.getFloat("f4"), 1.5f); eq(r.getDouble("f8"), Math.PI); eq(r.getBigDecimal("n"), new BigDecimal("-1234567890.1234"));
                        eq(r.getBoolean("b"), true); eq(r.getString("s"), "grüße \" \\ ' 😀"); eq(r.getString("v"), ""); eq(r.getString("c"), "ab   ");
                        eq(r.getBytes("y"), simple ? null : new byte[] {0, -1, 1}); eq(r.getObject("d", LocalDate.class), LocalDate.of(1999, 12, 31));
                        eq(r.getObject("tm", LocalTime.class), LocalTime.of(23, 59, 59, 999999000)); eq(r.getObject("tz", OffsetTime.class).isEqual(OffsetTime.of(12, 0, 0, 0, ZoneOffset.ofHours(2))), true);
                        eq(r.getObject("ts", LocalDateTime.class), LocalDateTime.of(2024, 2, 29, 1, 2, 3, 456000));
                        eq(r.getObject("tstz", OffsetDateTime.class).toInstant(), at.toInstant()); eq(r.getTimestamp("tstz").toInstant(), at.toInstant());
                        eq(((PGInterval) r.getObject("iv")).getValue(), "1 years 2 mons -3 days 4 hours 5 mins 6.5 secs");
                        eq(r.getObject("u"), u); eq(r.getString("ip"), "192.168.1.0/24"); eq(((PGobject) r.getObject("js")).getValue(), "{\"a\": [1, null, \"x\"]}");
                        eq(r.getString("m"), "happy"); eq(Arrays.toString((Object[]) r.getArray("ai").getArray()), "[1, null, -3]");
                        eq(Arrays.toString((Object[]) r.getArray("at").getArray()), "[a, b c, q\"\\, , null]"); eq(r.getString("bits"), "10110");
                    }
                }
                p.setInt(1, 100);
                try (ResultSet r = p.executeQuery()) {
                    r.next();
                    for (int k = 2; k <= 25; k++) { eq(r.getObject(k), null); eq(r.wasNull(), true); }
                    ResultSetMetaData m = r.getMetaData();
                    eq(m.getColumnCount(), 25); eq(m.getTableName(1), "t"); eq(m.getColumnTypeName(1), "int4");
                    eq(m.getPrecision(7), 20); eq(m.getScale(7), 4); eq(m.getColumnDisplaySize(10), 20); eq(m.isNullable(1), ResultSetMetaData.columnNoNulls);
                    eq(m.isAutoIncrement(1), false); eq(m.getColumnClassName(19), "java.util.UUID");
                }
                if (!options.contains("simple")) {
                    eq(p.getParameterMetaData().getParameterTypeName(1), "int4");
                    eq(p.getMetaData().getColumnName(2), "i2");
                }
            }
            // Special values.
            try (PreparedStatement p = c.prepareStatement("SELECT ?::float8, ?::float8, ?::timestamptz, ?::date, ?::numeric")) {
                for (int i = 0; i < 8; i++) {
                    p.setDouble(1, Double.NaN); p.setDouble(2, Double.NEGATIVE_INFINITY); p.setObject(3, OffsetDateTime.MAX); p.setObject(4, LocalDate.MIN); p.setBigDecimal(5, new BigDecimal("1e-30"));
                    try (ResultSet r = p.executeQuery()) {
                        r.next();
                        eq(r.getDouble(1), Double.NaN); eq(r.getDouble(2), Double.NEGATIVE_INFINITY); eq(r.getObject(3, OffsetDateTime.class), OffsetDateTime.MAX); eq(r.getObject(4, LocalDate.class), LocalDate.MIN);
                        eq(r.getBigDecimal(5).compareTo(new BigDecimal("1e-30")), 0);
                    }
                }
            }
        }
    }

    static void batch(Connection c, String table) throws Exception {
        exec(c, "DROP TABLE IF EXISTS j." + table, "CREATE TABLE j." + table + " (id INT PRIMARY KEY, s TEXT, at TIMESTAMPTZ)");
        try (PreparedStatement p = c.prepareStatement("INSERT INTO j." + table + " VALUES (?, ?, ?)")) {
            for (int i = 0; i < 3000; i++) { p.setInt(1, i); p.setString(2, "row " + i); p.setObject(3, OffsetDateTime.now()); p.addBatch(); }
            eq(p.executeBatch().length, 3000);
        }
        eq(value(c, "SELECT count(*) FROM j." + table), "3000");
        try (PreparedStatement p = c.prepareStatement("UPDATE j." + table + " SET s = ? WHERE id = ?")) {
            for (int i = 0; i < 300; i++) { p.setString(1, "x"); p.setInt(2, i * 20); p.addBatch(); }
            int[] n = p.executeBatch();
            eq(n[0], 1); eq(n[299], 0);
        }
        try (PreparedStatement p = c.prepareStatement("INSERT INTO j." + table + " VALUES (?, ?, now())")) {
            for (int i = 0; i < 10; i++) { p.setInt(1, i == 5 ? 1 : 10000 + i); p.setString(2, "dup"); p.addBatch(); }
            try { p.executeBatch(); throw new AssertionError("duplicate accepted"); } catch (BatchUpdateException e) { eq(e.getSQLState(), "23505"); }
        }
        eq(value(c, "SELECT count(*) FROM j." + table), "3000"); // one batch, one transaction
        try (Statement s = c.createStatement()) {
            s.addBatch("INSERT INTO j." + table + " VALUES (-1, 'a')"); s.addBatch("UPDATE j." + table + " SET s = 'b' WHERE id < 5"); s.addBatch("DELETE FROM j." + table + " WHERE id = -1");
            eq(Arrays.toString(s.executeBatch()), "[1, 6, 1]");
        }
    }

    static void batches() throws Exception { try (Connection c = open("")) { batch(c, "b1"); } }

    static void generatedKeys() throws Exception {
        try (Connection c = open("")) {
            exec(c, "DROP TABLE IF EXISTS j.g", "CREATE TABLE j.g (id SERIAL PRIMARY KEY, s TEXT, at TIMESTAMPTZ DEFAULT now())");
            try (PreparedStatement p = c.prepareStatement("INSERT INTO j.g (s) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
                p.setString(1, "a"); eq(p.executeUpdate(), 1);
                try (ResultSet r = p.getGeneratedKeys()) { r.next(); eq(r.getInt("id"), 1); eq(r.getString("s"), "a"); }
            }
            try (PreparedStatement p = c.prepareStatement("INSERT INTO j.g (s) VALUES (?)", new String[] {"id"})) {
                for (int i = 0; i < 5; i++) { p.setString(1, "b" + i); p.addBatch(); }
                p.executeBatch();
                try (ResultSet r = p.getGeneratedKeys()) { for (int i = 2; i < 7; i++) { r.next(); eq(r.getInt(1), i); } }
            }
            try (Statement s = c.createStatement()) {
                s.executeUpdate("INSERT INTO j.g (s) VALUES ('x'), ('y')", new String[] {"id", "at"});
                try (ResultSet r = s.getGeneratedKeys()) { r.next(); eq(r.getInt(1), 7); eq(r.getTimestamp(2) != null, true); }
                s.executeUpdate("UPDATE j.g SET s = 'z' WHERE id <= 2", Statement.RETURN_GENERATED_KEYS);
                try (ResultSet r = s.getGeneratedKeys()) { int n = 0; while (r.next()) n++; eq(n, 2); }
            }
        }
    }

    static void transactions(String options) throws Exception {
        try (Connection c = open(options)) {
            exec(c, "DROP TABLE IF EXISTS j.x", "CREATE TABLE j.x (id INT PRIMARY KEY, n INT)");
            for (int level : new int[] {Connection.TRANSACTION_READ_COMMITTED, Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_SERIALIZABLE}) {
                c.setTransactionIsolation(level);
                c.getTransactionIsolation();
            }
            c.setAutoCommit(false);
            exec(c, "INSERT INTO j.x VALUES (1, 1)");
            Savepoint a = c.setSavepoint("A b"), b = c.setSavepoint();
            exec(c, "INSERT INTO j.x VALUES (2, 2)");
            c.rollback(b);
            exec(c, "INSERT INTO j.x VALUES (3, 3)");
            if (options.isEmpty()) {
                fails("23505", () -> exec(c, "INSERT INTO j.x VALUES (1, 1)"));
                fails("25P02", () -> value(c, "SELECT 1"));
                c.rollback(a);
                exec(c, "INSERT INTO j.x VALUES (3, 3)");
            } else if (options.contains("always")) {
                fails("23505", () -> exec(c, "INSERT INTO j.x VALUES (1, 1)")); // the driver rolls back to its own savepoint
                eq(value(c, "SELECT count(*) FROM j.x"), "2");
            }
            c.releaseSavepoint(a);
            c.commit();
            eq(value(c, "SELECT string_agg(id::text, ',' ORDER BY id) FROM j.x"), "1,3");
            exec(c, "DELETE FROM j.x");
            c.rollback();
            eq(value(c, "SELECT count(*) FROM j.x"), "2");
            c.commit();
            c.setReadOnly(true);
            fails("25006", () -> exec(c, "INSERT INTO j.x VALUES (9, 9)"));
            c.rollback();
            c.setReadOnly(false);
        }
    }

    static void retry() throws Exception {
        try (Connection a = open(""); Connection b = open("")) {
            exec(a, "DROP TABLE IF EXISTS j.r", "CREATE TABLE j.r (id INT PRIMARY KEY, n INT)", "INSERT INTO j.r VALUES (1, 0), (2, 0)");
            Thread[] workers = new Thread[4];
            ConcurrentLinkedQueue<Exception> errors = new ConcurrentLinkedQueue<>();
            for (int w = 0; w < workers.length; w++) {
                workers[w] = new Thread(() -> {
                    try (Connection c = open("")) {
                        c.setAutoCommit(false);
                        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
                        for (int done = 0; done < 20; ) {
                            try {
                                int n = Integer.parseInt(value(c, "SELECT n FROM j.r WHERE id = 1"));
                                exec(c, "UPDATE j.r SET n = " + (n + 1) + " WHERE id = 1");
                                c.commit();
                                done++;
                            } catch (SQLException e) {
                                c.rollback();
                                if (!e.getSQLState().equals("40001") && !e.getSQLState().equals("40P01")) throw e;
                            }
                        }
                    } catch (Exception e) { errors.add(e); }
                });
                workers[w].start();
            }
            for (Thread t : workers) t.join();
            if (!errors.isEmpty()) throw errors.peek();
            eq(value(a, "SELECT n FROM j.r WHERE id = 1"), "80");
        }
    }

    static void cursor() throws Exception {
        try (Connection c = open("")) {
            exec(c, "DROP TABLE IF EXISTS j.cu", "CREATE TABLE j.cu AS SELECT g AS id, 'row ' || g AS s FROM generate_series(1, 5000) AS g");
            c.setAutoCommit(false);
            try (Statement s = c.createStatement(); Statement other = c.createStatement()) {
                s.setFetchSize(100);
                try (ResultSet r = s.executeQuery("SELECT * FROM j.cu ORDER BY id")) {
                    int n = 0;
                    while (r.next()) {
                        eq(r.getInt(1), ++n);
                        if (n % 1000 == 0) try (ResultSet o = other.executeQuery("SELECT count(*) FROM j.cu WHERE id <= " + n)) { o.next(); eq(o.getInt(1), n); }
                    }
                    eq(n, 5000);
                }
                s.setMaxRows(7);
                try (ResultSet r = s.executeQuery("SELECT * FROM j.cu ORDER BY id")) { int n = 0; while (r.next()) n++; eq(n, 7); }
            }
            try (PreparedStatement p = c.prepareStatement("SELECT * FROM j.cu WHERE id > ? ORDER BY id")) {
                p.setFetchSize(33);
                for (int i = 0; i < 8; i++) { p.setInt(1, i * 100); int n = 0; try (ResultSet r = p.executeQuery()) { while (r.next() && n < 2000) n++; } eq(n, 2000); }
            }
            // Two cursors at once, and one left open when the transaction ends.
            try (Statement s1 = c.createStatement(); Statement s2 = c.createStatement()) {
                s1.setFetchSize(10); s2.setFetchSize(10);
                ResultSet r1 = s1.executeQuery("SELECT id FROM j.cu ORDER BY id"), r2 = s2.executeQuery("SELECT id FROM j.cu ORDER BY id DESC");
                for (int i = 0; i < 50; i++) { r1.next(); r2.next(); eq(r1.getInt(1) + r2.getInt(1), 5001); }
                c.commit();
                fails("34000", () -> { while (r1.next()); });
                c.rollback();
            }
            exec(c, "DECLARE cc SCROLL CURSOR FOR SELECT id FROM j.cu ORDER BY id");
            eq(value(c, "FETCH 3 FROM cc"), "1"); eq(value(c, "FETCH NEXT FROM cc"), "4");
            exec(c, "MOVE 10 IN cc"); eq(value(c, "FETCH FORWARD 1 FROM cc"), "15"); exec(c, "CLOSE cc");
            c.commit();
            try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY); ResultSet r = s.executeQuery("SELECT id FROM j.cu ORDER BY id")) {
                r.last(); eq(r.getInt(1), 5000); r.absolute(10); eq(r.getInt(1), 10); r.previous(); eq(r.getInt(1), 9);
            }
        }
    }

    static void copy() throws Exception {
        try (Connection c = open("")) {
            exec(c, "DROP TABLE IF EXISTS j.cp", "CREATE TABLE j.cp (id INT PRIMARY KEY, s TEXT)");
            CopyManager m = c.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder b = new StringBuilder("id,s\n");
            for (int i = 0; i < 20000; i++) b.append(i).append(",\"row ").append(i).append(", ü\"\n");
            eq(m.copyIn("COPY j.cp FROM STDIN WITH (FORMAT csv, HEADER)", new StringReader(b.toString())), 20000L);
            eq(m.copyIn("COPY j.cp (id) FROM STDIN", new ByteArrayInputStream("20000\n20001\n".getBytes())), 2L);
            StringWriter w = new StringWriter();
            eq(m.copyOut("COPY (SELECT * FROM j.cp WHERE id < 20000 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE (s))", w), 20000L);
            eq(w.toString(), b.toString());
            ByteArrayOutputStream bin = new ByteArrayOutputStream();
            eq(m.copyOut("COPY j.cp TO STDOUT (FORMAT binary)", bin), 20002L);
            exec(c, "TRUNCATE j.cp");
            eq(m.copyIn("COPY j.cp FROM STDIN (FORMAT binary)", new ByteArrayInputStream(bin.toByteArray())), 20002L);
            PSQLException e = fails("22P02", () -> m.copyIn("COPY j.cp FROM STDIN", new StringReader("99999\tx\nabc\ty\n")));
            eq(e.getServerErrorMessage().getWhere(), "COPY cp, line 2, column id: \"abc\"");
            fails("23505", () -> m.copyIn("COPY j.cp FROM STDIN", new StringReader("1\tx\n")));
            fails("42P01", () -> m.copyIn("COPY j.nothing FROM STDIN", new StringReader("1\tx\n")));
            // Canceled half way; the connection goes on.
            var in = m.copyIn("COPY j.cp FROM STDIN");
            in.writeToCopy("77777\tx\n".getBytes(), 0, 8);
            in.cancelCopy();
            eq(value(c, "SELECT count(*) FROM j.cp"), "20002");
            var out = m.copyOut("COPY j.cp TO STDOUT");
            out.readFromCopy();
            try { out.cancelCopy(); } catch (SQLException ex) { eq(ex.getSQLState(), "57014"); }
            // The driver may leave the end of the copy unread, so this connection is not used again.
        }
    }

    static void cancel() throws Exception {
        try (Connection c = open("")) {
            try (Statement s = c.createStatement()) {
                s.setQueryTimeout(1);
                fails("57014", () -> s.executeQuery("SELECT pg_sleep(30)"));
                s.setQueryTimeout(0);
                Thread t = new Thread(() -> { try { Thread.sleep(300); s.cancel(); } catch (Exception e) { throw new RuntimeException(e); } });
                t.start();
                fails("57014", () -> s.executeQuery("SELECT pg_sleep(30)"));
                t.join();
                s.execute("SET statement_timeout = 200");
                PSQLException e = fails("57014", () -> s.executeQuery("SELECT pg_sleep(30)"));
                s.execute("RESET statement_timeout");
            }
            c.setNetworkTimeout(Executors.newSingleThreadExecutor(r -> { Thread t = new Thread(r); t.setDaemon(true); return t; }), 5000);
            eq(value(c, "SELECT 1"), "1");
            c.abort(Runnable::run);
            eq(c.isClosed(), true);
        }
    }

    static void errors() throws Exception {
        try (Connection c = open("&logServerErrorDetail=true")) {
            exec(c, "DROP TABLE IF EXISTS j.child, j.e", "CREATE TABLE j.e (id INT PRIMARY KEY, n INT NOT NULL, CONSTRAINT pos CHECK (n > 0))",
                "CREATE TABLE j.child (id INT PRIMARY KEY, p INT CONSTRAINT to_parent REFERENCES j.e)", "INSERT INTO j.e VALUES (1, 1)", "INSERT INTO j.child VALUES (1, 1)");
            ServerErrorMessage m = fails("23505", () -> exec(c, "INSERT INTO j.e VALUES (1, 1)")).getServerErrorMessage();
            eq(m.getConstraint(), "e_pkey"); eq(m.getTable(), "e"); eq(m.getSchema(), "j"); eq(m.getDetail(), "Key (id)=(1) already exists."); eq(m.getSeverity(), "ERROR");
            m = fails("23502", () -> exec(c, "INSERT INTO j.e VALUES (2, NULL)")).getServerErrorMessage();
            eq(m.getColumn(), "n"); eq(m.getTable(), "e"); eq(m.getSchema(), "j"); eq(m.getMessage(), "null value in column \"n\" of relation \"e\" violates not-null constraint");
            m = fails("23514", () -> exec(c, "INSERT INTO j.e VALUES (2, -1)")).getServerErrorMessage();
            eq(m.getConstraint(), "pos"); eq(m.getTable(), "e");
            m = fails("23503", () -> exec(c, "INSERT INTO j.child VALUES (2, 77)")).getServerErrorMessage();
            eq(m.getConstraint(), "to_parent"); eq(m.getTable(), "child"); eq(m.getDetail(), "Key (p)=(77) is not present in table \"e\".");
            m = fails("23503", () -> exec(c, "DELETE FROM j.e")).getServerErrorMessage();
            eq(m.getConstraint(), "to_parent"); eq(m.getTable(), "child");
            m = fails("42703", () -> exec(c, "SELECT nope FROM j.e")).getServerErrorMessage();
            eq(m.getPosition(), 8);
            m = fails("42601", () -> exec(c, "SELECT 1 FRM j.e")).getServerErrorMessage();
            eq(m.getPosition() > 0, true);
            m = fails("42P01", () -> exec(c, "SELECT * FROM nix")).getServerErrorMessage();
            eq(m.getPosition(), 15);
            fails("22012", () -> exec(c, "SELECT 1/0"));
            fails("22P02", () -> exec(c, "SELECT 'x'::int"));
            fails("22003", () -> exec(c, "SELECT 2147483647::int4 + 1::int4"));
            try (PreparedStatement p = c.prepareStatement("SELECT ?::int")) { p.setString(1, "abc"); fails("22P02", p::executeQuery); }
            try (PreparedStatement p = c.prepareStatement("SELECT ?::text")) { p.setString(1, "a\0b"); fails("22021", p::executeQuery); }
            eq(value(c, "SELECT 1"), "1");
            fails("3D000", () -> DriverManager.getConnection(base.replace("defaultdb", "nosuchdb")).close());
        }
    }

    static void notices() throws Exception {
        try (Connection c = open(""); Statement s = c.createStatement()) {
            s.execute("DROP TABLE IF EXISTS j.never");
            SQLWarning w = s.getWarnings();
            eq(w.getMessage(), "table \"never\" does not exist, skipping"); eq(w.getSQLState(), "00000");
            s.clearWarnings();
            s.execute("COMMIT");
            eq(s.getWarnings().getSQLState(), "25P01");
        }
    }

    static void ddl() throws Exception {
        for (String autosave : new String[] {"never", "conservative", "always"})
            try (Connection c = open("&prepareThreshold=1&autosave=" + autosave)) {
                exec(c, "DROP TABLE IF EXISTS j.d", "CREATE TABLE j.d (a INT)", "INSERT INTO j.d VALUES (1)");
                try (PreparedStatement p = c.prepareStatement("SELECT * FROM j.d")) {
                    for (int i = 0; i < 7; i++) p.executeQuery().close();
                    exec(c, "ALTER TABLE j.d ADD COLUMN b TEXT DEFAULT 'new'");
                    try (ResultSet r = p.executeQuery()) { r.next(); eq(r.getString("b"), "new"); }
                    exec(c, "ALTER TABLE j.d DROP COLUMN a");
                    try (ResultSet r = p.executeQuery()) { r.next(); eq(r.getMetaData().getColumnCount(), 1); }
                }
                exec(c, "DISCARD ALL");
                eq(value(c, "SELECT b FROM j.d"), "new");
                exec(c, "DEALLOCATE ALL");
                eq(value(c, "SELECT b FROM j.d"), "new");
            }
    }

    static void zones() throws Exception {
        TimeZone was = TimeZone.getDefault();
        try {
            for (String z : new String[] {"UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "GMT+05:30"}) {
                TimeZone.setDefault(TimeZone.getTimeZone(z));
                try (Connection c = open("&prepareThreshold=1")) {
                    Timestamp t = Timestamp.from(Instant.parse("2024-07-01T22:30:00.5Z"));
                    for (int i = 0; i < 3; i++)
                        try (PreparedStatement p = c.prepareStatement("SELECT ?::timestamptz, ?::timestamptz::date, extract(epoch from ?::timestamptz)::float8")) {
                            p.setTimestamp(1, t); p.setTimestamp(2, t); p.setTimestamp(3, t);
                            try (ResultSet r = p.executeQuery()) {
                                r.next();
                                eq(r.getTimestamp(1), t); eq(r.getDate(2).toLocalDate(), t.toLocalDateTime().toLocalDate()); eq(r.getDouble(3), t.getTime() / 1000.0);
                            }
                        }
                }
            }
        } finally { TimeZone.setDefault(was); }
        try (Connection c = open("")) {
            exec(c, "SET DateStyle = 'ISO, DMY'");
            eq(value(c, "SELECT '02/03/2024'::date"), "2024-03-02");
            try { exec(c, "SET DateStyle = 'SQL, DMY'"); throw new AssertionError("the driver accepts ISO only"); } catch (SQLException e) { /* refused by the driver or the node */ }
        }
    }

    static void huge() throws Exception {
        try (Connection c = open("")) {
            exec(c, "DROP TABLE IF EXISTS j.h", "CREATE TABLE j.h (id INT PRIMARY KEY, s TEXT, y BYTEA)");
            String s = "ü234567890".repeat(1 << 20);
            byte[] y = new byte[12 << 20];
            new Random(1).nextBytes(y);
            try (PreparedStatement p = c.prepareStatement("INSERT INTO j.h VALUES (?, ?, ?)")) { p.setInt(1, 1); p.setString(2, s); p.setBytes(3, y); p.executeUpdate(); p.setInt(1, 2); p.setNull(2, Types.VARCHAR); p.setBinaryStream(3, new ByteArrayInputStream(y), y.length); p.executeUpdate(); }
            try (PreparedStatement p = c.prepareStatement("SELECT s, y, length(s), length(y) FROM j.h WHERE id = ?")) {
                p.setInt(1, 1);
                try (ResultSet r = p.executeQuery()) { r.next(); eq(r.getInt(3), s.length()); eq(r.getInt(4), y.length); eq(r.getString(1), s); eq(r.getBytes(2), y); }
            }
            StringBuilder q = new StringBuilder("SELECT count(*) FROM generate_series(1, 40000) AS g(i) WHERE i IN (?");
            q.append(",?".repeat(9999)).append(")");
            try (PreparedStatement p = c.prepareStatement(q.toString())) {
                for (int i = 1; i <= 10000; i++) p.setInt(i, i * 2);
                try (ResultSet r = p.executeQuery()) { r.next(); eq(r.getInt(1), 10000); }
            }
            StringBuilder cols = new StringBuilder("SELECT 0");
            for (int i = 1; i < 1600; i++) cols.append(",").append(i);
            try (Statement st = c.createStatement(); ResultSet r = st.executeQuery(cols.toString())) { r.next(); eq(r.getInt(1600), 1599); }
        }
    }

    static void arrays() throws Exception {
        for (String o : new String[] {"", "&prepareThreshold=1", "&preferQueryMode=simple"})
            try (Connection c = open(o)) {
                for (int i = 0; i < 7; i++)
                    try (PreparedStatement p = c.prepareStatement("SELECT ?::int8[], ?::uuid[], ?::float8[], ?::bool[], ?::timestamptz[], count(*) FROM generate_series(1, 10) AS g(i) WHERE i = ANY (?)")) {
                        UUID u = UUID.randomUUID();
                        p.setArray(1, c.createArrayOf("int8", new Long[] {1L, 2L})); p.setObject(2, c.createArrayOf("uuid", new UUID[] {u})); p.setArray(3, c.createArrayOf("float8", new Double[] {1.5, null}));
                        p.setArray(4, c.createArrayOf("bool", new Boolean[] {})); p.setArray(5, c.createArrayOf("timestamptz", new String[] {"2024-01-01 00:00:00+00"})); p.setArray(6, c.createArrayOf("int4", new Integer[] {1, 2, 33}));
                        try (ResultSet r = p.executeQuery()) {
                            r.next();
                            eq(Arrays.toString((Long[]) r.getArray(1).getArray()), "[1, 2]"); eq(((UUID[]) r.getArray(2).getArray())[0], u); eq(Arrays.toString((Double[]) r.getArray(3).getArray()), "[1.5, null]");
                            eq(((Boolean[]) r.getArray(4).getArray()).length, 0); eq(((Timestamp[]) r.getArray(5).getArray())[0].toInstant(), Instant.parse("2024-01-01T00:00:00Z")); eq(r.getInt(6), 2);
                            try (ResultSet e = r.getArray(1).getResultSet()) { e.next(); eq(e.getLong(2), 1L); }
                        }
                    }
            }
    }

    static void updatable() throws Exception {
        try (Connection c = open("")) {
            exec(c, "DROP TABLE IF EXISTS j.u", "CREATE TABLE j.u (id INT PRIMARY KEY, s TEXT)", "INSERT INTO j.u VALUES (1, 'a'), (2, 'b'), (3, 'c')");
            try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE); ResultSet r = s.executeQuery("SELECT id, s FROM j.u ORDER BY id")) {
                r.next(); r.updateString("s", "changed"); r.updateRow();
                r.next(); r.deleteRow();
                r.moveToInsertRow(); r.updateInt("id", 9); r.updateString("s", "new"); r.insertRow();
            }
            eq(value(c, "SELECT string_agg(id || s, ' ' ORDER BY id) FROM j.u"), "1changed 3c 9new");
        }
    }

    static void callable() throws Exception {
        try (Connection c = open("")) {
            try (CallableStatement s = c.prepareCall("{? = call upper(?)}")) { s.registerOutParameter(1, Types.VARCHAR); s.setString(2, "abc"); s.execute(); eq(s.getString(1), "ABC"); }
            try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT {fn concat('a', 'b')}, {d '2024-01-02'}, {ts '2024-01-02 03:04:05'}, {fn now()}, {fn length('abc')}")) { r.next(); eq(r.getString(1), "ab"); eq(r.getString(2), "2024-01-02"); eq(r.getString(3), "2024-01-02 03:04:05"); }
        }
    }

    static List<String> rows(ResultSet r, String... cols) throws SQLException {
        List<String> out = new ArrayList<>();
        while (r.next()) {
            StringJoiner j = new StringJoiner(" ");
            for (String col : cols) j.add(String.valueOf(r.getString(col)));
            out.add(j.toString());
        }
        r.close();
        return out;
    }

    static void metadata() throws Exception {
        try (Connection c = open("")) {
            exec(c, "DROP SCHEMA IF EXISTS jm CASCADE", "CREATE SCHEMA jm", "CREATE TYPE jm.color AS ENUM ('red', 'green')",
                "CREATE TABLE jm.p (a INT, b VARCHAR(30) NOT NULL, c NUMERIC(10,2) DEFAULT 1.5, d jm.color, e SERIAL, f INT[], PRIMARY KEY (b, a))",
                "COMMENT ON TABLE jm.p IS 'the parents'", "COMMENT ON COLUMN jm.p.c IS 'money'",
                "CREATE TABLE jm.ch (id INT8 PRIMARY KEY, pb VARCHAR(30), pa INT, u TEXT UNIQUE, CONSTRAINT fk FOREIGN KEY (pb, pa) REFERENCES jm.p (b, a) ON DELETE CASCADE ON UPDATE SET NULL)",
                "CREATE INDEX ch_idx ON jm.ch (pa DESC, pb)", "CREATE VIEW jm.v AS SELECT id FROM jm.ch", "CREATE SEQUENCE jm.s");
            DatabaseMetaData m = c.getMetaData();
            eq(m.getDatabaseProductName(), "PostgreSQL");
            eq(rows(m.getTables(null, "jm", "%", new String[] {"TABLE", "VIEW", "SEQUENCE"}), "TABLE_NAME", "TABLE_TYPE", "REMARKS").toString(), "[p_e_seq SEQUENCE null, s SEQUENCE null, ch TABLE null, p TABLE the parents, v VIEW null]");
            eq(rows(m.getTables(null, "jm", "%", null), "TABLE_NAME", "TABLE_TYPE").toString(), "[ch_idx INDEX, ch_pkey INDEX, ch_u_key INDEX, p_pkey INDEX, p_e_seq SEQUENCE, s SEQUENCE, ch TABLE, p TABLE, color TYPE, v VIEW]".replace("color TYPE, ", ""));
            eq(rows(m.getColumns(null, "jm", "p", "%"), "COLUMN_NAME", "TYPE_NAME", "DATA_TYPE", "COLUMN_SIZE", "DECIMAL_DIGITS", "NULLABLE", "COLUMN_DEF", "ORDINAL_POSITION", "IS_AUTOINCREMENT", "REMARKS"),
                List.of("a int4 4 10 0 0 null 1 NO null", "b varchar 12 30 0 0 null 2 NO null", "c numeric 2 10 2 1 1.5 3 NO money", "d \"jm\".\"color\" 12 2147483647 0 1 null 4 NO null",
                    "e serial 4 10 0 0 nextval('jm.p_e_seq'::regclass) 5 YES null", "f _int4 2003 10 0 1 null 6 NO null"));
            eq(rows(m.getPrimaryKeys(null, "jm", "p"), "COLUMN_NAME", "KEY_SEQ", "PK_NAME").toString(), "[b 1 p_pkey, a 2 p_pkey]");
            String fk = "[p b ch pb 1 2 0 fk p_pkey 7, p a ch pa 2 2 0 fk p_pkey 7]";
            String[] fkCols = {"PKTABLE_NAME", "PKCOLUMN_NAME", "FKTABLE_NAME", "FKCOLUMN_NAME", "KEY_SEQ", "UPDATE_RULE", "DELETE_RULE", "FK_NAME", "PK_NAME", "DEFERRABILITY"};
            eq(rows(m.getImportedKeys(null, "jm", "ch"), fkCols).toString(), fk);
            eq(rows(m.getExportedKeys(null, "jm", "p"), fkCols).toString(), fk);
            eq(rows(m.getCrossReference(null, "jm", "p", null, "jm", "ch"), fkCols).toString(), fk);
            eq(rows(m.getIndexInfo(null, "jm", "ch", false, false), "INDEX_NAME", "NON_UNIQUE", "ORDINAL_POSITION", "COLUMN_NAME", "ASC_OR_DESC", "TYPE").toString(), "[ch_pkey f 1 id A 3, ch_u_key f 1 u A 3, ch_idx t 1 pa D 3, ch_idx t 2 pb A 3]");
            eq(rows(m.getIndexInfo(null, "jm", "ch", true, false), "INDEX_NAME").toString(), "[ch_pkey, ch_u_key]");
            Set<String> types = new TreeSet<>(rows(m.getTypeInfo(), "TYPE_NAME"));
            for (String t : new String[] {"int4", "int8", "text", "jsonb", "uuid", "timestamptz", "bytea", "numeric", "bool", "serial", "bigserial"}) if (!types.contains(t)) throw new AssertionError("getTypeInfo lacks " + t);
            eq(rows(m.getSchemas(null, "jm%"), "TABLE_SCHEM").toString(), "[jm]");
            eq(rows(m.getCatalogs(), "TABLE_CAT").contains("defaultdb"), true);
            eq(rows(m.getUDTs(null, "jm", "%", null), "TYPE_NAME").size() <= 1, true);
            eq(rows(m.getBestRowIdentifier(null, "jm", "ch", DatabaseMetaData.bestRowSession, false), "COLUMN_NAME", "TYPE_NAME").toString(), "[id int8]");
            m.getTablePrivileges(null, "jm", "p").close(); m.getColumnPrivileges(null, "jm", "p", "a").close();
        }
    }

    // Every method without arguments answers, and those of catalogs do not fail.
    static void metadataAll() throws Exception {
        try (Connection c = open("")) {
            DatabaseMetaData m = c.getMetaData();
            for (var method : DatabaseMetaData.class.getMethods()) {
                if (method.getParameterCount() != 0) continue;
                try { Object r = method.invoke(m); if (r instanceof ResultSet) { ((ResultSet) r).next(); ((ResultSet) r).close(); } }
                catch (java.lang.reflect.InvocationTargetException e) { if (!(e.getCause() instanceof SQLFeatureNotSupportedException)) throw new AssertionError(method.getName() + ": " + e.getCause()); }
            }
            m.getFunctions(null, null, "%").close(); m.getProcedures(null, null, "%").close(); m.getFunctionColumns(null, null, "upper", "%").close(); m.getProcedureColumns(null, null, "%", "%").close();
            m.getVersionColumns(null, "j", "t").close(); m.getTables(null, null, null, null).close(); m.getColumns(null, null, null, null).close(); m.getClientInfoProperties().close();
        }
    }

    static void catalog() throws Exception {
        try (Connection c = open("&currentSchema=j&ApplicationName=drive&options=-c%20statement_timeout=90000")) {
            eq(c.getCatalog(), "defaultdb"); eq(c.getSchema(), "j"); eq(value(c, "SHOW application_name"), "drive"); eq(value(c, "SHOW statement_timeout"), "90s".equals(value(c, "SHOW statement_timeout")) ? "90s" : "1min 30s");
            c.setSchema("public"); eq(c.getSchema(), "public");
            c.setClientInfo("ApplicationName", "other"); eq(value(c, "SHOW application_name"), "other");
            eq(c.unwrap(PGConnection.class).getBackendPID() > 0, true);
            eq(value(c, "SELECT pg_backend_pid()"), String.valueOf(c.unwrap(PGConnection.class).getBackendPID()));
            eq(c.unwrap(PGConnection.class).getParameterStatus("server_encoding"), "UTF8");
            eq(c.getTypeMap().isEmpty(), true);
        }
        try (Connection c = open("&readOnly=true&loggerLevel=OFF&targetServerType=primary&loadBalanceHosts=true&assumeMinServerVersion=9.0&tcpKeepAlive=true")) { eq(value(c, "SELECT 1"), "1"); }
    }

    static void churn() throws Exception {
        for (int i = 0; i < 200; i++) try (Connection c = open("")) { if (i % 20 == 0) eq(value(c, "SELECT " + i), "" + i); }
    }

    static void multi() throws Exception {
        for (String o : new String[] {"", "&preferQueryMode=simple"})
            try (Connection c = open(o); Statement s = c.createStatement()) {
                eq(s.execute("SELECT 1; SELECT 2; CREATE TEMP TABLE multi_1 (a INT); INSERT INTO multi_1 VALUES (1), (2); SELECT a FROM multi_1 ORDER BY a"), true);
                List<String> got = new ArrayList<>();
                for (boolean isResult = true; isResult || s.getUpdateCount() != -1; isResult = s.getMoreResults())
                    if (isResult) { ResultSet r = s.getResultSet(); StringBuilder b = new StringBuilder("rows"); while (r.next()) b.append(" ").append(r.getString(1)); got.add(b.toString()); } else got.add("count " + s.getUpdateCount());
                eq(got.toString(), "[rows 1, rows 2, count 0, count 2, rows 1 2]");
                eq(s.execute(""), false); eq(s.execute(";"), false); eq(s.execute("-- comment only"), false);
                fails("22012", () -> s.execute("CREATE TEMP TABLE multi_2 (a INT); SELECT 1/0"));
                fails("42P01", () -> s.execute("SELECT * FROM multi_2")); // the whole message is one transaction
            }
    }

    static void listen() throws Exception {
        try (Connection c = open("")) {
            try { exec(c, "LISTEN ch"); exec(c, "NOTIFY ch, 'x'"); } catch (SQLException e) { eq(e.getSQLState(), "0A000"); }
            eq(value(c, "SELECT 1"), "1");
        }
    }
}
