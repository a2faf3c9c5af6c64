package dev.lanewise.core.backend;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.HashSet;
import java.util.Set;

/**
 * A device without memory: what is allocated on it is only counted, and operations do nothing. A
 * model that runs on it for one step tells how much memory a step takes.
 */
public final class PlanningBackend implements InvocationHandler {
  private final Backend planned;
  private final Set<Buffer> live = new HashSet<>();
  private long bytes;
  private long peak;

  /**
   * A device on which nothing is allocated yet.
   *
   * @param planned the device whose memory is to be counted
   */
  public PlanningBackend(Backend planned) {
    this.planned = planned;
  }

  /** The device, to run a model on. */
  public Backend backend() {
    return (Backend)
        Proxy.newProxyInstance(
            PlanningBackend.class.getClassLoader(), new Class<?>[] {Backend.class}, this);
  }

  /** Most bytes that were allocated at one time. */
  public long peakBytes() {
    return peak;
  }

  private static final class Counted extends Buffer {
    Counted(DType type, long length) {
      super(type, length);
    }

    @Override
    protected Buffer newView(DType as, long byteOffset, long count) {
      return new Counted(as, count);
    }
  }

  @Override
  public Object invoke(Object proxy, Method method, Object[] arguments) {
    return switch (method.getName()) {
      case "name" -> "planning";
      case "description" -> "a device that only counts memory";
      case "activationType" -> planned.activationType();
      case "headRows" ->
          planned.headRows((int) arguments[0], (int) arguments[1], (int) arguments[2]);
      case "ownLogitBytes" ->
          planned.ownLogitBytes((int) arguments[0], (int) arguments[1], (int) arguments[2]);
      case "lentLogitBytes" ->
          planned.lentLogitBytes((int) arguments[0], (int) arguments[1], (int) arguments[2]);
      case "keepsActivations" -> false;
      case "availableMemory" -> Long.MAX_VALUE;
      case "allocate" -> {
        Buffer buffer = new Counted((DType) arguments[0], (Long) arguments[1]);
        live.add(buffer);
        bytes += buffer.byteSize();
        peak = Math.max(peak, bytes);
        yield buffer;
      }
      case "free" -> {
        Buffer buffer = (Buffer) arguments[0];
        if (live.remove(buffer)) {
          bytes -= buffer.byteSize();
        }
        yield null;
      }
      case "hashCode" -> System.identityHashCode(proxy);
      case "equals" -> proxy == arguments[0];
      case "toString" -> "PlanningBackend";
      default -> null;
    };
  }
}
