// As matrix.js of node, with JDBC: the first argument is the scheme of the driver.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Matrix {
    public static void main(String[] words) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Future<String>> results = new ArrayList<>();
        for (int i = 1; i < words.length; i++) {
            String word = words[i];
            results.add(threads.submit(() -> attempt(words[0], word)));
        }
        for (Future<String> result : results) {
            System.out.println(result.get());
        }
        System.exit(0);
    }

    static String attempt(String scheme, String words) {
        String[] word = words.split(",", -1);
        String password = word[3], ca = word[4];
        Properties settings = new Properties();
        settings.setProperty("user", "app_user");
        if (!password.isEmpty()) {
            settings.setProperty("password", password);
        }
        if (scheme.equals("postgresql")) {
            settings.setProperty("sslmode", ca.isEmpty() ? "disable" : "verify-full");
            settings.setProperty("gssEncMode", "disable");
            if (!ca.isEmpty()) {
                settings.setProperty("sslrootcert", ca);
            }
        } else {
            settings.setProperty("useSsl", ca.isEmpty() ? "false" : "true");
            if (!ca.isEmpty()) {
                settings.setProperty("serverSslCert", ca);
            }
        }
        String url = "jdbc:" + scheme + "://" + word[1] + ":" + word[2] + "/appdb";
        String name = scheme.equals("postgresql") ? "current_user" : "substring_index(user(), '@', 1)";
        try (Connection db = DriverManager.getConnection(url, settings);
                ResultSet rows = db.createStatement().executeQuery("select " + name)) {
            rows.next();
            return word[0] + " in as " + rows.getString(1);
        } catch (SQLException error) {
            StringBuilder said = new StringBuilder(word[0]);
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                said.append(' ').append(String.valueOf(cause.getMessage()).replaceAll("\\s+", " "));
            }
            return said.toString();
        }
    }
}
