package org.apache.beam.sdk.fn.server;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.apache.beam.model.pipeline.v1.Endpoints;
import org.apache.beam.sdk.fn.channel.SocketAddressFactory;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.BindableService;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.Server;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.ServerInterceptor;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.ServerInterceptors;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.netty.NettyServerBuilder;

/**
 * Takes the place of Beam's class of this name (Beam 2.61 in Flink 2.2): the servers through which the TaskManager
 * talks to its Python workers, without a password.
 *
 * Beam's own chooses a loopback address and then listens on its port alone, which means on all addresses; this one
 * listens on the address. Nothing else differs. See deploy/classes.py.
 */
public class ServerFactory$InetSocketAddressServerFactory extends ServerFactory {
    private final ServerFactory.UrlFactory urlFactory;
    private final Supplier portSupplier;

    ServerFactory$InetSocketAddressServerFactory(ServerFactory.UrlFactory urlFactory) {
        this(urlFactory, null);
    }

    ServerFactory$InetSocketAddressServerFactory(ServerFactory.UrlFactory urlFactory, Supplier portSupplier) {
        this.urlFactory = urlFactory;
        this.portSupplier = portSupplier;
    }

    public Server allocateAddressAndCreate(List services, Endpoints.ApiServiceDescriptor.Builder descriptor)
            throws IOException {
        int port = portSupplier == null ? 0 : ((Integer) portSupplier.get()).intValue();
        InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), port);
        Server server = createServer(services, address);
        descriptor.setUrl(urlFactory.createUrl(address.getHostName(), server.getPort()));
        return server;
    }

    public Server create(List services, Endpoints.ApiServiceDescriptor descriptor) throws IOException {
        return createServer(services, (InetSocketAddress) SocketAddressFactory.createFrom(descriptor.getUrl()));
    }

    private static Server createServer(List services, InetSocketAddress address) throws IOException {
        NettyServerBuilder builder = NettyServerBuilder.forAddress(address);
        builder.maxMessageSize(Integer.MAX_VALUE);
        builder.permitKeepAliveTime(19L, TimeUnit.SECONDS);
        ServerInterceptor[] interceptors = {GrpcContextHeaderAccessorProvider.interceptor()};
        for (Object service : services) {
            builder.addService(ServerInterceptors.intercept((BindableService) service, interceptors));
        }
        return builder.build().start();
    }
}
