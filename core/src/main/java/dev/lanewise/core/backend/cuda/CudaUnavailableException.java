package dev.lanewise.core.backend.cuda;

import dev.lanewise.core.base.InputException;
import java.io.Serial;

/** A piece of CUDA that this machine lacks; the message names it and its mend. */
public final class CudaUnavailableException extends InputException {
  @Serial private static final long serialVersionUID = 1L;

  CudaUnavailableException(String message) {
    super(message);
  }

  CudaUnavailableException(String message, Throwable cause) {
    super(message, cause);
  }
}
