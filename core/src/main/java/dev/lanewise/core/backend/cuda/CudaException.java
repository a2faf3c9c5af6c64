package dev.lanewise.core.backend.cuda;

import java.io.Serial;

/** A call to a CUDA library that returned a failing status. */
public final class CudaException extends RuntimeException {
  @Serial private static final long serialVersionUID = 1L;

  private final String function;
  private final int status;

  CudaException(String function, int status, String statusName, String detail) {
    super(
        function
            + " failed with "
            + statusName
            + " ("
            + status
            + ")"
            + (detail.isEmpty() ? "" : ": " + detail));
    this.function = function;
    this.status = status;
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
