// pgjdbc, the driver of IDE database panes: both protocols, COPY, notifications, large objects, big rows, errors, cancel.
// Run from its source: java -cp /usr/share/java/postgresql.jar Client.java HOST PORT DATABASE USER [BIG]

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;
import java.util.Random;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public final class Client {
    private static String url;
    private static String user;
    private static int big;
    private static final String OWN = "java_" + ProcessHandle.current().pid();

    public static void main(String[] args) throws Exception {
        url = "jdbc:postgresql://" + args[0] + ":" + args[1] + "/";
        String database = args[2];
        user = args[3];
        big = args.length > 4 ? Integer.parseInt(args[4]) : 16 * 1024 * 1024;
        for (String mode : new String[] {"disable", "allow", "prefer"}) {
            // An IDE asks in both ways: extendedCacheEverything keeps even plain statements on the server.
            for (String protocol : new String[] {"simple", "extended", "extendedCacheEverything"}) {
                try (Connection db = connect(database, mode, protocol)) {
                    same("sslmode=" + mode + ", " + protocol, one(db, "select current_user"), user);
                }
            }
        }
        for (String protocol : new String[] {"simple", "extended"}) {
            try (Connection db = connect(database, "prefer", protocol)) {
                execute(db, "create schema " + OWN);
                try {
                    statements(db);
                    errors(db, protocol);
                } finally {
                    execute(db, "drop schema " + OWN + " cascade");
                }
            }
        }
        try (Connection db = connect(database, "prefer", "extended")) {
            execute(db, "create schema " + OWN);
            try {
                metadata(db);
                copy(db);
                notifications(db, database);
                largeObjects(db);
                bigRow(db);
                cancels(db, database);
            } finally {
                db.setAutoCommit(true);
                execute(db, "drop schema " + OWN + " cascade");
            }
        }
        refused("sslmode=require is told", database, "require", "08004");
        refused("refusal at login", "no_such_database", "prefer", "3D000");
        ok("pgjdbc " + org.postgresql.Driver.getVersion());
    }

    private static Connection connect(String database, String sslmode, String protocol) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", user);
        if (System.getenv("PGPASSWORD") != null) properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty("sslmode", sslmode);
        properties.setProperty("preferQueryMode", protocol);
        properties.setProperty("currentSchema", OWN);
        properties.setProperty("ApplicationName", "java client");
        return DriverManager.getConnection(url + database, properties);
    }

    private static void statements(Connection db) throws SQLException {
        same("startup parameters", one(db, "show application_name"), "java client");
        execute(db, "create table rows (id int primary key, text text)");
        try (PreparedStatement insert = db.prepareStatement("insert into rows values (?, ?)")) {
            for (int number = 0; number < 2000; number++) {
                insert.setInt(1, number);
                insert.setString(2, "Zeile " + number + " ü");
                insert.addBatch();
            }
            same("batch", insert.executeBatch().length, 2000);
        }
        db.setAutoCommit(false);
        try (Statement select = db.createStatement()) {
            select.setFetchSize(100);
            long sum = 0;
            try (ResultSet rows = select.executeQuery("select id from rows")) {
                while (rows.next()) sum += rows.getInt(1);
            }
            same("rows in parts", sum, 1_999_000L);
        }
        db.rollback();
        db.setAutoCommit(true);
        try (PreparedStatement prepared = db.prepareStatement("select text from rows where id = ?")) {
            for (int number = 0; number < 20; number++) {
                prepared.setInt(1, number);
                try (ResultSet rows = prepared.executeQuery()) {
                    rows.next();
                    expect("prepared", rows.getString(1), "Zeile " + number + " ü");
                }
            }
        }
        ok("prepared, past the fifth time that the server keeps it");
        try (Statement statement = db.createStatement()) {
            statement.execute("do $$ begin raise notice 'heard'; end $$");
            same("notice", statement.getWarnings().getMessage(), "heard");
        }
    }

    private static void errors(Connection db, String protocol) throws SQLException {
        String[][] cases = {{"select 1/0", "22012"}, {"selec", "42601"}, {"select * from nowhere", "42P01"},
            {"insert into rows values (0, 'twice')", "23505"}};
        for (String[] wrong : cases) {
            try {
                execute(db, wrong[0]);
            } catch (SQLException error) {
                same(wrong[1] + ", " + protocol, error.getSQLState(), wrong[1]);
                continue;
            }
            throw new AssertionError("MISMATCH " + wrong[0] + " did not fail");
        }
        same("usable after errors", one(db, "select 1"), "1");
    }

    /** What an IDE's pane asks when it opens. */
    private static void metadata(Connection db) throws SQLException {
        execute(db, "create table shown (id int primary key, text text)");
        int columns = 0;
        try (ResultSet found = db.getMetaData().getColumns(null, OWN, "shown", null)) {
            while (found.next()) columns++;
        }
        same("catalogue", columns, 2);
    }

    private static void copy(Connection db) throws Exception {
        execute(db, "create table copied (id int, text text)");
        StringBuilder lines = new StringBuilder();
        for (int number = 0; number < 50_000; number++) lines.append(number).append("\trow ").append(number).append(" ä\n");
        byte[] in = lines.toString().getBytes(StandardCharsets.UTF_8);
        var api = db.unwrap(PGConnection.class).getCopyAPI();
        same("copy in", api.copyIn("copy copied from stdin", new ByteArrayInputStream(in)), 50_000L);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        api.copyOut("copy (select * from copied order by id) to stdout", out);
        same("copy out", digest("SHA-256", out.toByteArray()), digest("SHA-256", in));
    }

    private static void notifications(Connection db, String database) throws SQLException {
        // All clients share the database, and whoever listens hears everybody.
        String own = "news_" + db.unwrap(PGConnection.class).getBackendPID();
        execute(db, "listen " + own);
        try (Connection other = connect(database, "disable", "extended")) {
            execute(other, "select pg_notify('" + own + "', repeat('x', 7000))");
        }
        PGNotification[] heard = db.unwrap(PGConnection.class).getNotifications(20_000);
        same("notification while idle", heard[0].getName() + heard[0].getParameter().length(), own + "7000");
    }

    /** Through the driver's own interface, which calls server functions by the protocol's FunctionCall message. */
    private static void largeObjects(Connection db) throws SQLException {
        db.setAutoCommit(false);
        byte[] content = new byte[300_000];
        new Random(1).nextBytes(content);
        LargeObjectManager objects = db.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = objects.createLO();
        try (LargeObject object = objects.open(oid, LargeObjectManager.READWRITE)) {
            object.write(content);
            object.seek(0);
            same("large object by FunctionCall", Arrays.equals(object.read(400_000), content), true);
        }
        objects.delete(oid);
        db.commit();
        db.setAutoCommit(true);
    }

    private static void bigRow(Connection db) throws Exception {
        byte[] content = new byte[big];
        new Random(2).nextBytes(content);
        try (PreparedStatement statement = db.prepareStatement("select repeat('r', ?), md5(?::bytea)")) {
            statement.setInt(1, big);
            statement.setBytes(2, content);
            try (ResultSet row = statement.executeQuery()) {
                row.next();
                same("row of " + big + " bytes up", row.getString(2), digest("MD5", content));
                same("row of " + big + " bytes down", row.getString(1).equals("r".repeat(big)), true);
            }
        }
    }

    private static void cancels(Connection db, String database) throws Exception {
        int pid = db.unwrap(PGConnection.class).getBackendPID();
        long began = System.nanoTime();
        try (Statement statement = db.createStatement()) {
            Thread canceller = new Thread(() -> {
                try (Connection other = connect(database, "disable", "extended")) {
                    String asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and pid = " + pid;
                    while (one(other, asleep).equals("0")) Thread.onSpinWait();
                    statement.cancel();
                } catch (SQLException error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            try {
                statement.execute("select pg_sleep(60)");
                throw new AssertionError("MISMATCH pg_sleep ended by itself");
            } catch (SQLException error) {
                same("cancel: SQLSTATE", error.getSQLState(), "57014");
            }
            canceller.join();
        }
        same("cancel: soon", System.nanoTime() - began < 5_000_000_000L, true);
        same("cancel: usable after it", one(db, "select 1"), "1");
    }

    private static void refused(String what, String database, String sslmode, String state) throws SQLException {
        try (Connection db = connect(database, sslmode, "extended")) {
            throw new AssertionError("MISMATCH " + what + ": got in");
        } catch (SQLException error) {
            same(what, error.getSQLState(), state);
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

    private static String digest(String algorithm, byte[] bytes) throws Exception {
        return hex(MessageDigest.getInstance(algorithm).digest(bytes));
    }

    /** HexFormat is there from Java 17 on. */
    private static String hex(byte[] bytes) {
        return String.format("%0" + 2 * bytes.length + "x", new BigInteger(1, bytes));
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
