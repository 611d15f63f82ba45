import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsServer;
import com.sun.net.httpserver.spi.HttpServerProvider;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import sun.net.httpserver.DefaultHttpServerProvider;

/**
 * The JDK's HTTP server, bound to loopback whatever address was asked for.
 *
 * Flink's Prometheus reporter listens on all addresses and has no setting for it. Named by the system property
 * com.sun.net.httpserver.HttpServerProvider; see deploy/classes.py.
 */
public class LoopbackHttpServerProvider extends HttpServerProvider {
    private final DefaultHttpServerProvider provider = new DefaultHttpServerProvider();

    private static InetSocketAddress loopback(InetSocketAddress asked) {
        return new InetSocketAddress(InetAddress.getLoopbackAddress(), asked.getPort());
    }

    public HttpServer createHttpServer(InetSocketAddress asked, int backlog) throws IOException {
        return provider.createHttpServer(loopback(asked), backlog);
    }

    public HttpsServer createHttpsServer(InetSocketAddress asked, int backlog) throws IOException {
        return provider.createHttpsServer(loopback(asked), backlog);
    }
}
