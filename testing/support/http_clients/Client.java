// java Client.java URL FILE: posts the file with Java's own client as it is made, which offers h2c, and without that.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;

public class Client {
    public static void main(String[] given) throws Exception {
        for (HttpClient.Version version : HttpClient.Version.values()) {
            HttpClient client = HttpClient.newBuilder().version(version).build();
            HttpRequest get = HttpRequest.newBuilder(URI.create(given[0] + "/health/ready")).build();
            System.out.println(client.send(get, HttpResponse.BodyHandlers.ofString()).statusCode());
            for (boolean expects : new boolean[] {false, false, true}) {
                HttpRequest post = HttpRequest.newBuilder(URI.create(given[0] + "/score?top_k=1"))
                    .header("Content-Type", "image/png").expectContinue(expects).timeout(Duration.ofSeconds(10))
                    .POST(HttpRequest.BodyPublishers.ofFile(Path.of(given[1]))).build();
                HttpResponse<String> response = client.send(post, HttpResponse.BodyHandlers.ofString());
                System.out.println(response.statusCode() + " " + response.body());
            }
        }
        System.exit(0);
    }
}
