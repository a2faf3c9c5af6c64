/**
 * Kernels for language models, vector search and linear algebra over {@link
 * java.lang.foreign.MemorySegment}s and arrays of floats: vectorised, multi-threaded, and the same
 * to the bit for any number of threads.
 *
 * <h2>Start</h2>
 *
 * The jar, {@code dev.lanewise:lanewise-simd}, depends on nothing. On the class path Java has to be
 * told to bring the Vector API, {@code --add-modules jdk.incubator.vector}; on the module path
 * {@code requires dev.lanewise.simd} does. With {@code --enable-native-access=ALL-UNNAMED}, or
 * {@code =dev.lanewise.simd} on the module path, products run as machine code where the processor
 * has AVX-512, and copies of confined memory are saved. Java's line about incubator modules means
 * that the Vector API may still change between JDKs.
 *
 * {@snippet file="tutorial/Tutorial.java" region="arrays"}
 *
 * <h2>Views</h2>
 *
 * A {@link dev.lanewise.simd.Matrix} says where rows lie: a segment, an offset and a stride,
 * counted in floats. It owns nothing and costs nothing; parts and transposes are views too. {@link
 * dev.lanewise.simd.Heads} and {@link dev.lanewise.simd.Indices} are to attention and to embeddings
 * what a matrix is to products. Most kernels have a raw form of segments, offsets and strides, for
 * those who have views of their own.
 *
 * {@snippet file="tutorial/Tutorial.java" region="views"}
 *
 * <h2>Memory</h2>
 *
 * Native memory is fastest, at any alignment, 64 bytes at best. {@link
 * dev.lanewise.simd.NativeMemory} gives large pages, which helps operands of many megabytes. Arrays
 * work everywhere. {@link dev.lanewise.simd.Similarity} reads them where they lie; other kernels
 * copy them to native memory and results back, which small products feel. An array of another type
 * than floats (bytes excepted) is refused, since its numbers would be misread. Use {@link
 * java.lang.foreign.Arena#ofShared} or {@code ofAuto}: confined memory works, but Java then asks
 * whose it is at each access, in code that other loops share. Working memory is taken once, kept
 * and used again, so that calls allocate nothing.
 *
 * {@snippet file="tutorial/Tutorial.java" region="memory"}
 *
 * <h2>Threads</h2>
 *
 * One pool serves the process, of as many threads as there are processors; {@code
 * -Dlanewise.threads} or {@link dev.lanewise.simd.Workers#setThreads} change that. The calling
 * thread takes part. A call that finds the pool at work for another thread runs on its own thread
 * alone, so a server with many callers is served by their threads; set the number to 1 there. Idle
 * workers spin for a fifth of a millisecond before they sleep.
 *
 * {@snippet file="tutorial/Tutorial.java" region="threads"}
 *
 * <h2>Warm-up</h2>
 *
 * What runs as machine code is as fast in the first call as ever. All else is compiled by Java
 * while it is used: the first call of a kernel takes from a tenth of a second to some seconds, in
 * which its thread waits for the compiler. Call what matters with small operands before traffic
 * comes, and start with {@code
 * -XX:CompileCommand=CompileThresholdScaling,dev.lanewise.simd.*::*,0.1}, which has it compiled
 * after a tenth of the usual calls.
 *
 * <h2>Precision</h2>
 *
 * Floats are IEEE 754 binary32; products and sums are fused where the processor fuses them. Sums of
 * products are taken in float32, as BLAS takes them; means, variances, losses and sums of whole
 * tensors in doubles. Special functions are within two units in the last place. {@link
 * dev.lanewise.simd.Bfloat16Gemm} rounds what it reads to bfloat16 and adds in float32, at up to
 * twice the speed. NaN and infinities go where arithmetic takes them.
 *
 * <h2>Determinism</h2>
 *
 * The same call gives the same bits on the same machine, whatever the number of threads, whatever
 * else runs, and whether Java has compiled it yet. Work is cut by the size of the problem, and sums
 * have an order. Vectors of another width ({@code -Dlanewise.simd.width}) may give other last
 * digits.
 *
 * <h2>Mistakes</h2>
 *
 * Shapes, bounds, overlap, access and lifetimes are checked before anything is written. A wrong
 * call gives an {@link java.lang.IllegalArgumentException} that names the operand; no call crashes
 * the JVM. Memory must stay open and unwritten by others while a call runs.
 *
 * {@snippet file="tutorial/Tutorial.java" region="mistake"}
 *
 * <h2>The types</h2>
 *
 * <dl>
 *   <dt>Views and memory
 *   <dd>{@link dev.lanewise.simd.Matrix}, {@link dev.lanewise.simd.Bfloat16Matrix}, {@link
 *       dev.lanewise.simd.MatrixView}, {@link dev.lanewise.simd.PackedMatrix}, {@link
 *       dev.lanewise.simd.Heads}, {@link dev.lanewise.simd.Indices}, {@link
 *       dev.lanewise.simd.ElementType}, {@link dev.lanewise.simd.NativeMemory}
 *   <dt>Products
 *   <dd>{@link dev.lanewise.simd.Gemm}, {@link dev.lanewise.simd.Epilogue} (bias, GELU and residual
 *       in the same pass), {@link dev.lanewise.simd.Bfloat16Gemm}, {@link dev.lanewise.simd.Blas}
 *       (sgemm, sgemmStridedBatched, sgemv, sger)
 *   <dt>Vector search
 *   <dd>{@link dev.lanewise.simd.Similarity}, {@link dev.lanewise.simd.TopK}
 *   <dt>Networks
 *   <dd>{@link dev.lanewise.simd.Attention}, {@link dev.lanewise.simd.LayerNorm}, {@link
 *       dev.lanewise.simd.Gelu}, {@link dev.lanewise.simd.Softmax}, {@link
 *       dev.lanewise.simd.LogSoftmax}, {@link dev.lanewise.simd.CrossEntropy}, {@link
 *       dev.lanewise.simd.LinearCrossEntropy}, {@link dev.lanewise.simd.Embedding}, {@link
 *       dev.lanewise.simd.Dropout}, {@link dev.lanewise.simd.AdamW}
 *   <dt>Elements and sums
 *   <dd>{@link dev.lanewise.simd.Elementwise}, {@link dev.lanewise.simd.VectorMath}, {@link
 *       dev.lanewise.simd.Reduce}, {@link dev.lanewise.simd.Bfloat16}
 *   <dt>The process
 *   <dd>{@link dev.lanewise.simd.Machine}, {@link dev.lanewise.simd.Workers}
 * </dl>
 *
 * Attention over queries, keys and values that lie side by side, as a linear layer writes them:
 *
 * {@snippet file="tutorial/Tutorial.java" region="attention"}
 *
 * The best of some vectors:
 *
 * {@snippet file="tutorial/Tutorial.java" region="search"}
 *
 * <h2>When this is not the right choice</h2>
 *
 * <ul>
 *   <li>Doubles, integers, complex or sparse matrices, solvers and decompositions: there are none.
 *   <li>Products of a few numbers: below some ten by ten a plain loop in your own method is as
 *       good.
 *   <li>A JVM without HotSpot's C2 compiler, or a processor without fused multiply-add: results are
 *       right and slow, perhaps a thousand times; {@link dev.lanewise.simd.Machine#obstacles}
 *       tells.
 *   <li>JDKs before 25, and processes that may not be given flags.
 *   <li>Work that fits on a GPU and has one.
 * </ul>
 */
package dev.lanewise.simd;
