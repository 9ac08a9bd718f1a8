// MariaDB Connector/J, which IDEs use for MySQL too: both protocols, cursors, LOCAL INFILE, big packets, errors, cancel.
// Run from its source: java -cp /usr/share/java/mariadb-java-client.jar MariaClient.java HOST PORT DATABASE USER [BIG]

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.Set;
import org.mariadb.jdbc.MariaDbPoolDataSource;

public final class MariaClient {
    private static String url;
    private static String database;
    private static String user;
    private static int big;
    private static final String OWN = "java_" + ProcessHandle.current().pid();

    public static void main(String[] args) throws Exception {
        url = "jdbc:mariadb://" + args[0] + ":" + args[1] + "/";
        database = args[2];
        user = args[3];
        big = args.length > 4 ? Integer.parseInt(args[4]) : 17 * 1024 * 1024;
        for (String prepared : new String[] {"false", "true"}) {
            try (Connection db = connect(database, "useServerPrepStmts", prepared)) {
                String protocol = prepared.equals("true") ? "binary protocol" : "text protocol";
                same(protocol, one(db, "select current_user()"), user + "@%");
                execute(db, "create table " + OWN + " (id int primary key, text varchar(80))");
                execute(db, "create procedure " + OWN + "() begin select 1; select 2; end");
                try {
                    statements(db, protocol);
                    errors(db, protocol);
                    bigPackets(db, protocol);
                    cancels(db);
                } finally {
                    execute(db, "drop table " + OWN);
                    execute(db, "drop procedure " + OWN);
                }
            }
        }
        localInfile();
        pool();
        refused("refusal at login", 1044, () -> connect("no_such_database"));
        ok("Connector/J " + org.mariadb.jdbc.Driver.class.getPackage().getImplementationVersion());
    }

    private interface Act {
        Object run() throws SQLException;
    }

    private static Connection connect(String database, String... settings) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", user);
        properties.setProperty("allowMultiQueries", "true");
        if (System.getenv("COMPRESS") != null) properties.setProperty("useCompression", "true");
        for (int at = 0; at < settings.length; at += 2) properties.setProperty(settings[at], settings[at + 1]);
        return DriverManager.getConnection(url + database, properties);
    }

    private static void statements(Connection db, String protocol) throws SQLException {
        DatabaseMetaData metadata = db.getMetaData();
        same("server version", metadata.getDatabaseProductVersion(), one(db, "select version()"));
        db.setAutoCommit(false);
        try (PreparedStatement insert = db.prepareStatement("insert into " + OWN + " values (?, ?)")) {
            for (int number = 0; number < 1000; number++) {
                insert.setInt(1, number);
                insert.setString(2, "Zeile " + number + " ü🐬");
                insert.addBatch();
            }
            same("batch, " + protocol, insert.executeBatch().length, 1000);
        }
        db.commit();
        try (PreparedStatement prepared = db.prepareStatement("select text from " + OWN + " where id = ?")) {
            for (int number = 0; number < 50; number++) {
                prepared.setInt(1, number);
                try (ResultSet rows = prepared.executeQuery()) {
                    rows.next();
                    expect("prepared", rows.getString(1), "Zeile " + number + " ü🐬");
                }
            }
        }
        ok("prepared, " + protocol);
        String all = "select a.id + 1000 * b.id from " + OWN + " a, " + OWN + " b where b.id < 100";
        try (PreparedStatement select = db.prepareStatement(all)) {
            select.setFetchSize(100);
            long sum = 0;
            try (ResultSet rows = select.executeQuery()) {
                while (rows.next()) sum += rows.getLong(1);
            }
            same("big result in parts, " + protocol, sum, 4_999_950_000L);
        }
        db.rollback();
        db.setAutoCommit(true);
        try (Statement statement = db.createStatement()) {
            statement.execute("select 1; update " + OWN + " set text = 'neu' where id < 3; select 'zwei'");
            same("multi-statements: one", first(statement), "1");
            expect("multi-statements: no result", statement.getMoreResults(), false);
            same("multi-statements: two", statement.getUpdateCount(), 3);
            expect("multi-statements: a result", statement.getMoreResults(), true);
            same("multi-statements: three", first(statement), "zwei");
            statement.execute("call " + OWN + "()");
            same("multi-results: one", first(statement), "1");
            expect("multi-results: another", statement.getMoreResults(), true);
            same("multi-results: two", first(statement), "2");
        }
        int columns = 0;
        try (ResultSet found = metadata.getColumns(database, null, OWN, null)) {
            while (found.next()) columns++;
        }
        same("catalogue", columns, 2);
    }

    private static void errors(Connection db, String protocol) throws SQLException {
        Object[][] cases = {{"selec", 1064}, {"select * from nowhere", 1146}, {"insert into " + OWN + " values (0, 'twice')", 1062}};
        for (Object[] wrong : cases) {
            refused("error " + wrong[1] + ", " + protocol, (int) wrong[1], () -> {
                try (PreparedStatement statement = db.prepareStatement((String) wrong[0])) {
                    return statement.execute();
                }
            });
        }
        same("usable after errors", one(db, "select 1"), "1");
    }

    /** HexFormat is there from Java 17 on. */
    private static String hex(byte[] bytes) {
        return String.format("%0" + 2 * bytes.length + "x", new BigInteger(1, bytes));
    }

    private static void bigPackets(Connection db, String protocol) throws Exception {
        String content = "ü".repeat(big / 2);
        try (PreparedStatement statement = db.prepareStatement("select sha2(?, 256), repeat('r', ?)")) {
            statement.setString(1, content);
            statement.setInt(2, big);
            try (ResultSet row = statement.executeQuery()) {
                row.next();
                byte[] digest = MessageDigest.getInstance("SHA-256").digest(content.getBytes(StandardCharsets.UTF_8));
                same("packet of " + big + " bytes up, " + protocol, row.getString(1), hex(digest));
                same("packet of " + big + " bytes down, " + protocol, row.getString(2).equals("r".repeat(big)), true);
            }
        }
    }

    private static boolean isAsleep(Connection other, String query) {
        try {
            return !one(other, query).equals("0");
        } catch (Exception error) { // the server cannot show another client's statement in utf8mb3
            return false;
        }
    }

    private static void cancels(Connection db) throws Exception {
        String number = one(db, "select connection_id()");
        long began = System.nanoTime();
        try (Statement statement = db.createStatement()) {
            Thread canceller = new Thread(() -> {
                try (Connection other = connect(database)) {
                    String asleep = "select count(*) from information_schema.processlist where state = 'User sleep' and id = " + number;
                    while (!isAsleep(other, asleep)) Thread.onSpinWait();
                    // The driver connects once more, for KILL QUERY.
                    statement.cancel();
                } catch (SQLException error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            refused("cancel by kill query", 1317, () -> statement.execute("select id from " + OWN + " where sleep(60)"));
            canceller.join();
        }
        same("cancel: soon", System.nanoTime() - began < 30_000_000_000L, true);
        same("cancel: usable after it", one(db, "select 1"), "1");
    }

    private static void localInfile() throws Exception {
        Path lines = Files.createTempFile("java-client", null);
        String table = OWN + "_in";
        try (Connection db = connect(database, "allowLocalInfile", "true"); Connection other = connect(database, "allowLocalInfile", "false")) {
            StringBuilder text = new StringBuilder();
            for (int number = 0; number < 50_000; number++) text.append(number).append("\trow ").append(number).append(" ä\n");
            Files.writeString(lines, text);
            execute(db, "create table " + table + " (id int, text varchar(40)) charset utf8mb4");
            String load = "load data local infile '" + lines + "' into table " + table + " character set utf8mb4";
            try {
                execute(db, load);
                same("local infile", one(db, "select concat(count(*), ' ', cast(sum(id) as signed)) from " + table), "50000 1249975000");
                try {
                    execute(other, load);
                    throw new AssertionError("MISMATCH local infile, not asked for: done");
                } catch (SQLException error) {
                    same("local infile, not asked for", Set.of(1148, 3948, 4166).contains(error.getErrorCode()), true);
                }
            } finally {
                execute(db, "drop table " + table);
            }
        } finally {
            Files.delete(lines);
        }
    }

    private static void pool() throws SQLException {
        try (MariaDbPoolDataSource pool = new MariaDbPoolDataSource(url + database + "?user=" + user + "&maxPoolSize=2&useResetConnection=true")) {
            for (int number = 0; number < 6; number++) {
                try (Connection db = pool.getConnection()) {
                    expect("pool", one(db, "select @mark is null"), "1");
                    // It resets what comes back to the pool when the server is a MariaDB.
                    if (one(db, "select version()").contains("MariaDB")) execute(db, "set @mark = 1");
                }
            }
        }
        ok("pool with reset");
    }

    private static void refused(String what, int code, Act act) throws SQLException {
        try {
            act.run();
        } catch (SQLException error) {
            same(what, error.getErrorCode(), code);
            return;
        }
        throw new AssertionError("MISMATCH " + what + ": did not fail");
    }

    private static String first(Statement statement) throws SQLException {
        try (ResultSet rows = statement.getResultSet()) {
            rows.next();
            return rows.getString(1);
        }
    }

    private static void execute(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement()) {
            statement.execute(sql);
        }
    }

    private static String one(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    private static void expect(String what, Object found, Object expected) {
        if (!expected.equals(found)) throw new AssertionError("MISMATCH " + what + ": found " + found + ", expected " + expected);
    }

    private static void same(String what, Object found, Object expected) {
        expect(what, found, expected);
        ok(what);
    }

    private static void ok(String what) {
        System.out.println("ok " + what);
    }
}
