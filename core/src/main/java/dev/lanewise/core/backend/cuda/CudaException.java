package dev.lanewise.core.backend.cuda;

import java.io.Serial;

/** A call to a CUDA library that returned a failing status. */
public final class CudaException extends RuntimeException {
  @Serial private static final long serialVersionUID = 1L;

  private final String function;
  private final int status;

  CudaException(String function, int status, String statusName, String detail) {
    this(
        function
            + " failed with "
            + statusName
            + " ("
            + status
            + ")"
            + (detail.isEmpty() ? "" : ": " + detail),
        function,
        status);
  }

  private CudaException(String message, String function, int status) {
    super(message);
    this.function = function;
    this.status = status;
  }

  /** The same failure, with the kernel that caused it. */
  CudaException during(String kernel) {
    CudaException named = new CudaException(getMessage() + ", during " + kernel, function, status);
    named.initCause(this);
    return named;
  }

  /** Name of the function that failed. */
  public String function() {
    return function;
  }

  /** The status it returned, as its library numbers them. */
  public int status() {
    return status;
  }
}
