package dev.lanewise.bench.breakdown;

import dev.lanewise.core.backend.Backend;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A device in front of another that keeps time: each operation that runs is counted with its
 * duration and its cost. A model that does not run on it pays nothing for it.
 */
final class TimedBackend implements InvocationHandler {
  private final Backend device;
  private final boolean isQueued;
  private final Map<String, Tally> tallies = new LinkedHashMap<>();

  /** What the calls of an operation took together. */
  static final class Tally {
    long calls;
    long nanos;
    double flops;
    double bytes;
  }

  /**
   * Keeps a device's time.
   *
   * @param device the device; closed with this one
   */
  TimedBackend(Backend device) {
    this.device = device;
    isQueued = !device.name().equals("cpu");
  }

  /** The device to run a model on. */
  Backend backend() {
    return (Backend)
        Proxy.newProxyInstance(
            TimedBackend.class.getClassLoader(), new Class<?>[] {Backend.class}, this);
  }

  /** The operations since the last call, in the order in which they first ran; forgets them. */
  Map<String, Tally> take() {
    Map<String, Tally> taken = new LinkedHashMap<>(tallies);
    tallies.clear();
    return taken;
  }

  @Override
  public Object invoke(Object proxy, Method method, Object[] arguments) throws Throwable {
    Operation operation =
        method.getReturnType() == void.class && arguments != null
            ? Operation.of(method.getName(), arguments)
            : null;
    long start = System.nanoTime();
    Object result;
    try {
      result = method.invoke(device, arguments);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
    if (operation != null) {
      if (isQueued) {
        device.synchronize();
      }
      long nanos = System.nanoTime() - start;
      Tally tally = tallies.computeIfAbsent(operation.label(), label -> new Tally());
      tally.calls++;
      tally.nanos += nanos;
      tally.flops += operation.flops();
      tally.bytes += operation.bytes();
    }
    return result;
  }
}
