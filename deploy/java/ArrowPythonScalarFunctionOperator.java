package org.apache.flink.table.runtime.operators.python.scalar.arrow;

import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.fnexecution.v1.FlinkFnApi;
import org.apache.flink.python.PythonOptions;
import org.apache.flink.python.util.ProtoUtils;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.functions.python.PythonFunctionInfo;
import org.apache.flink.table.runtime.arrow.serializers.ArrowSerializer;
import org.apache.flink.table.runtime.generated.GeneratedProjection;
import org.apache.flink.table.runtime.operators.python.scalar.AbstractPythonScalarFunctionOperator;
import org.apache.flink.table.types.logical.RowType;

/**
 * Takes the place of Flink's class of this name (Flink 2.2): the operator that hands rows to a pandas function.
 *
 * Flink's own ends a batch by its rows and by time: 20,000 lines of 64 KiB are 1.3 GB, several times over on their way
 * to Python. This one ends batch and bundle by their bytes too, so that what is on its way is never more than
 * BATCH_BYTES and one row. Nothing else differs. See deploy/loopback.py.
 */
public class ArrowPythonScalarFunctionOperator extends AbstractPythonScalarFunctionOperator {
    private static final long serialVersionUID = 1L;

    /** Four times what 20,000 usual lines take. */
    private static final int BATCH_BYTES = Integer.getInteger("logcanary.batch.bytes", 16 * 1024 * 1024).intValue();

    private transient int rows;
    private transient int mostRows;
    private transient long bytes;
    private transient ArrowSerializer arrow;

    public ArrowPythonScalarFunctionOperator(
            Configuration config,
            PythonFunctionInfo[] functions,
            RowType inputType,
            RowType functionInputType,
            RowType functionOutputType,
            GeneratedProjection functionInput,
            GeneratedProjection forwarded) {
        super(config, functions, inputType, functionInputType, functionOutputType, functionInput, forwarded);
    }

    public void open() throws Exception {
        super.open();
        mostRows = Math.min(((Integer) config.get(PythonOptions.MAX_ARROW_BATCH_SIZE)).intValue(), maxBundleSize);
        arrow = new ArrowSerializer(udfInputType, udfOutputType);
        arrow.open(bais, baos);
        rows = 0;
        bytes = 0L;
    }

    public FlinkFnApi.CoderInfoDescriptor createInputCoderInfoDescriptor(RowType type) {
        return ProtoUtils.createArrowTypeCoderInfoDescriptorProto(
                type, FlinkFnApi.CoderInfoDescriptor.Mode.MULTIPLE, false);
    }

    public FlinkFnApi.CoderInfoDescriptor createOutputCoderInfoDescriptor(RowType type) {
        return ProtoUtils.createArrowTypeCoderInfoDescriptorProto(
                type, FlinkFnApi.CoderInfoDescriptor.Mode.SINGLE, false);
    }

    protected void invokeFinishBundle() throws Exception {
        sendBatch();
        super.invokeFinishBundle();
    }

    public void endInput() throws Exception {
        sendBatch();
        super.endInput();
    }

    public void finish() throws Exception {
        sendBatch();
        super.finish();
    }

    public void close() throws Exception {
        super.close();
        if (arrow != null) {
            arrow.close();
            arrow = null;
        }
    }

    public void emitResult(Tuple3 result) throws Exception {
        bais.setBuffer((byte[]) result.f1, 0, ((Integer) result.f2).intValue());
        int count = arrow.load();
        for (int i = 0; i < count; i++) {
            RowData forwarded = (RowData) forwardedInputQueue.poll();
            reuseJoinedRow.setRowKind(forwarded.getRowKind());
            rowDataWrapper.collect(reuseJoinedRow.replace(forwarded, arrow.read(i)));
        }
        arrow.resetReader();
    }

    public void processElementInternal(Object value) throws Exception {
        RowData row = getFunctionInput((RowData) value);
        arrow.write(row);
        rows++;
        bytes += ((BinaryRowData) row).getSizeInBytes();
        if (bytes >= BATCH_BYTES) {
            // The caller counts this row too, and then ends the bundle: it is not to hold several batches of this size.
            elementCount = Math.max(elementCount, maxBundleSize - 1);
        } else if (rows >= mostRows) {
            sendBatch();
        }
    }

    private void sendBatch() throws Exception {
        if (rows > 0) {
            arrow.finishCurrentBatch();
            rows = 0;
            bytes = 0L;
            pythonFunctionRunner.process(baos.toByteArray());
            checkInvokeFinishBundleByCount();
            baos.reset();
            arrow.resetWriter();
        }
    }
}
