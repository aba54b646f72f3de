package cpu

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/program"
)

// TestBuffers: every dtype, in shapes with ones and zeros, goes in and comes out as the Go type that GoMLX wants.
func TestBuffers(t *testing.T) {
	b := open(t, "")
	for dtype, supported := range b.Capabilities().DTypes {
		if !supported {
			continue
		}
		for _, dims := range [][]int{{}, {1}, {7}, {3, 0, 2}, {5, 13}} {
			shape := shapes.Make(dtype, dims...)
			want := fill(shape, 1)
			buffer, err := b.BufferFromFlatData(0, want, shape)
			if err != nil {
				t.Fatalf("%s: %v", shape, err)
			}
			data, err := buffer.Data()
			if err != nil || !reflect.DeepEqual(data, want) {
				t.Errorf("%s: data %v, want %v (%v)", shape, data, want, err)
			}
			got := dtypes.MakeAnySlice(dtype, shape.Size())
			if err := buffer.ToFlatData(got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: copied out %v, want %v (%v)", shape, got, want, err)
			}
			other, err := buffer.CopyToDevice(0)
			if err != nil {
				t.Fatal(err)
			}
			if err := buffer.Finalize(); err != nil {
				t.Fatal(err)
			}
			if data, err := other.Data(); err != nil || !reflect.DeepEqual(data, want) {
				t.Errorf("%s: the copy has %v, want %v (%v)", shape, data, want, err)
			}
			if address := unsafe.Pointer(unsafe.SliceData(other.(*Buffer).block.data)); uintptr(address)%program.Align != 0 {
				t.Errorf("%s: memory at %p", shape, address)
			}
			if s, err := other.Shape(); err != nil || !s.Equal(shape) || other.Backend() != b {
				t.Errorf("shape %s, want %s (%v)", s, shape, err)
			}
		}
	}
	if _, ok := must(must(b.BufferFromFlatData(0, []bfloat16.BFloat16{1}, shapes.Make(dtypes.BFloat16))).Data()).([]bfloat16.BFloat16); !ok {
		t.Error("bfloat16 is not a slice of bfloat16.BFloat16")
	}
	if !b.HasSharedBuffers() {
		t.Fatal("no shared buffers")
	}
	buffer, flat, err := b.NewSharedBuffer(0, f32(3))
	if err != nil {
		t.Fatal(err)
	}
	flat.([]float32)[1] = 7
	if must(buffer.Data()).([]float32)[1] != 7 {
		t.Error("the memory is not shared")
	}
}

// TestBufferRefuses: wrong types, lengths, devices and shapes, and any use after Finalize, are errors.
func TestBufferRefuses(t *testing.T) {
	b := open(t, "")
	made := func(device compute.DeviceNum, flat any, shape shapes.Shape) error {
		_, err := b.BufferFromFlatData(device, flat, shape)
		return err
	}
	dynamic := shapes.Shape{DType: dtypes.Float32, Dimensions: []int{shapes.DynamicDim}}
	finished := must(b.BufferFromFlatData(0, []float32{1, 2, 3}, f32(3)))
	live := must(b.BufferFromFlatData(0, []float32{1, 2, 3}, f32(3)))
	if err := finished.Finalize(); err != nil {
		t.Fatal(err)
	}
	_, dataErr := finished.Data()
	_, copyErr := finished.CopyToDevice(0)
	_, deviceErr := live.CopyToDevice(1)
	for name, err := range map[string]error{
		"type":               made(0, []int32{1}, f32(1)),
		"no slice":           made(0, 3, f32()),
		"nothing":            made(0, nil, f32()),
		"too short":          made(0, []float32{1}, f32(2)),
		"too long":           made(0, []float32{1, 2, 3}, f32(2)),
		"device":             made(1, []float32{1}, f32(1)),
		"dynamic":            made(0, []float32{1}, dynamic),
		"no shape":           made(0, []float32{1}, shapes.Invalid()),
		"complex":            made(0, []complex64{1}, shapes.Make(dtypes.Complex64, 1)),
		"data after":         dataErr,
		"copy after":         copyErr,
		"copying out after":  finished.ToFlatData(make([]float32, 3)),
		"finalised twice":    finished.Finalize(),
		"copied to 1":        deviceErr,
		"copied to int32":    live.ToFlatData(make([]int32, 3)),
		"copied to too few":  live.ToFlatData(make([]float32, 2)),
		"copied to no slice": live.ToFlatData(7),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestTooLarge: sizes that the machine does not have are errors that say how much was asked for and how much there is.
func TestTooLarge(t *testing.T) {
	b := open(t, "")
	_, available := memory()
	if available == 0 {
		t.Skip("the free memory of this system is not known")
	}
	for _, dims := range [][]int{{1 << 38}, {1 << 20, 1 << 20}, {1 << 40, 1 << 40}, {math.MaxInt, 2}, {1 << 32, 1 << 32, 0, 4}} {
		_, _, err := b.NewSharedBuffer(0, f32(dims...))
		if zero := len(dims) == 4; zero != (err == nil) || !zero && !strings.Contains(err.Error(), "out of memory") {
			t.Errorf("%v: %v", dims, err)
		}
	}
	_, _, err := b.NewSharedBuffer(0, f32(1<<40))
	if err == nil || !strings.Contains(err.Error(), "4.0 TiB asked for") || !strings.Contains(err.Error(), "available") {
		t.Errorf("%v; want what was asked for and what there is", err)
	}
}

// TestTooLargeToExecute: outputs and intermediate values that the machine has no memory for are errors too.
func TestTooLargeToExecute(t *testing.T) {
	if _, available := memory(); available == 0 {
		t.Skip("the free memory of this system is not known")
	}
	both(t, func(t *testing.T, b *Backend) {
		for name, finish := range map[string]func(f *Function, huge compute.Value) (compute.Value, error){
			"output": func(_ *Function, huge compute.Value) (compute.Value, error) { return huge, nil },
			"intermediate": func(f *Function, huge compute.Value) (compute.Value, error) {
				return f.ReduceSum(must(f.Sort(must(inClosure(f, list(f32(), f32()), ascending)), 0, true, huge))[0])
			},
		} {
			main := b.Builder(name).(*Builder).main
			huge := must(main.BroadcastInDim(must(main.Constant([]float32{1})), f32(1<<20, 1<<20), nil))
			if err := main.Return([]compute.Value{must(finish(main, huge))}, nil); err != nil {
				t.Fatal(err)
			}
			executable, err := main.builder.Compile()
			if err == nil {
				_, err = executable.Execute(nil, nil, 0)
			}
			if err == nil || !strings.Contains(err.Error(), "out of memory") {
				t.Errorf("%s of 4 TiB: %v", name, err)
			}
		}
	})
}

func ascending(c compute.Function, in []compute.Value) ([]compute.Value, error) {
	return single(c.LessThan(in[0], in[1]))
}

// TestClasses: a size class holds what is asked for, is aligned and wastes at most an eighth.
func TestClasses(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 127, 128, 129, 1000, 1024, 1025, 4095, 4096, 4097, 1 << 20, 1<<20 + 1, 3<<20 - 1, 1<<33 + 1} {
		got := class(n)
		if got < n || got%program.Align != 0 || got > max(n+n/8, n+program.Align) || class(got) != got {
			t.Errorf("class(%d) = %d, and its class %d", n, got, class(got))
		}
	}
	for _, n := range []int{64, 192, 576, 4096, 5000, 1 << 20} {
		if data := program.Memory(n); len(data) != n || uintptr(unsafe.Pointer(&data[0]))%program.Align != 0 {
			t.Errorf("Memory(%d) has %d bytes at %p", n, len(data), &data[0])
		}
	}
}

// TestPool: freed memory is used again, the pool is bounded, and collections and close empty it.
func TestPool(t *testing.T) {
	p := newPool()
	first := must(p.get(1000))
	address := &first.data[0]
	p.put(first)
	if second := must(p.get(1001)); &second.data[0] != address {
		t.Error("freed memory was not used again")
	} else {
		p.put(second)
	}
	if other := must(p.get(5000)); &other.data[0] == address {
		t.Error("memory of another class was used")
	}
	large := make([]*block, 5)
	for i := range large {
		large[i] = must(p.get(keepAlways / 4))
	}
	for _, b := range large {
		p.put(b)
	}
	if p.kept > keepAlways {
		t.Errorf("%d bytes kept, want at most %d", p.kept, keepAlways)
	}
	before := p.collections
	for range 200 { // cleanups run some time after the collection
		if p.mu.Lock(); p.collections >= before+3 {
			p.mu.Unlock()
			break
		}
		p.mu.Unlock()
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	p.mu.Lock()
	kept, rounds := p.kept, p.collections-before
	p.mu.Unlock()
	if kept != 0 || rounds < 3 {
		t.Errorf("after %d collections the pool keeps %d bytes", rounds, kept)
	}
	p.close()
	p.put(must(p.get(64)))
	if p.kept != 0 {
		t.Error("a closed pool keeps memory")
	}
}

// TestPoolKeepsHalf: beyond what is always kept, half of what is in use is.
func TestPoolKeepsHalf(t *testing.T) {
	p := newPool()
	const n = keepAlways / 4
	var blocks []*block
	for range 16 { // 4 * keepAlways, never touched
		blocks = append(blocks, must(p.get(n)))
	}
	for _, b := range blocks[:6] {
		p.put(b)
	}
	if p.kept != 5*n { // of 16, 5 kept and 10 in use; with a sixth it would be 6 of 10
		t.Errorf("kept %d blocks, want 5", p.kept/n)
	}
	runtime.KeepAlive(blocks)
}

// TestBuffersFromGoroutines: finalising a buffer while others read it is safe; its memory is not used again meanwhile.
func TestBuffersFromGoroutines(t *testing.T) {
	b := open(t, "")
	for round := range 50 {
		want := float32(round)
		buffer := must(b.BufferFromFlatData(0, []float32{want, want, want, want}, f32(4)))
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				got := make([]float32, 4)
				if err := buffer.ToFlatData(got); err == nil && (got[0] != want || got[3] != want) {
					t.Errorf("round %d: read %v", round, got)
				}
				if i == 3 {
					_ = buffer.Finalize()
				}
				other := must(b.BufferFromFlatData(0, []float32{-1, -1, -1, -1}, f32(4)))
				if err := other.Finalize(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}

// TestAfterFinalize: a finalised backend refuses everything, and buffers can still be finalised.
func TestAfterFinalize(t *testing.T) {
	b := must(New("")).(*Backend)
	buffer := must(b.BufferFromFlatData(0, []float32{1}, f32(1)))
	builder := b.Builder("late").(*Builder)
	x := must(builder.main.Parameter("x", f32(1), nil))
	if err := builder.main.Return([]compute.Value{must(builder.main.Neg(x))}, nil); err != nil {
		t.Fatal(err)
	}
	executable := must(builder.Compile())
	open := b.Builder("open").(*Builder)
	b.Finalize()
	b.Finalize()
	if !b.IsFinalized() {
		t.Error("not finalised")
	}
	_, sharedErr := func() (any, error) { _, flat, err := b.NewSharedBuffer(0, f32(1)); return flat, err }()
	_, executeErr := executable.Execute([]compute.Buffer{buffer}, nil, 0)
	_, constantErr := open.main.Constant([]float32{1})
	for name, err := range map[string]error{"buffer": sharedErr, "execution": executeErr, "constant": constantErr} {
		if err == nil || !strings.Contains(err.Error(), "finalised") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := buffer.Finalize(); err != nil {
		t.Error(err)
	}
	executable.Finalize()
}

// TestOptions: configurations and the instruction level.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		level, config, want string // want is in the error
		check               func(b *Backend) bool
	}{
		{config: "", check: func(b *Backend) bool {
			return b.Threads() == min(runtime.GOMAXPROCS(0), Cores()) && !b.BF16() && b.Name() == "polar"
		}},
		{config: "threads=3", check: func(b *Backend) bool { return b.Threads() == 3 }},
		{config: "threads=1,", check: func(b *Backend) bool { return b.Threads() == 1 }},
		{level: "generic", check: func(b *Backend) bool { return b.Level().String() == "generic" && b.Peak(true) == 0 }},
		{level: "generic", config: "bf16", want: "POLAR_CPU=generic"},
		{level: "sse9", want: "generic, avx2, avx512"},
		{config: "bf61", want: "bf16, threads=N"},
		{config: "threads", want: "bf16, threads=N"},
		{config: "threads=0", want: "from 1 to"},
		{config: "threads=many", want: "from 1 to"},
		{config: "threads=99999999", want: "from 1 to"},
	} {
		t.Run(fmt.Sprintf("%s:%s", c.level, c.config), func(t *testing.T) {
			t.Setenv(LevelEnvVar, c.level)
			opened, err := New(c.config)
			switch {
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			case err != nil:
				t.Error(err)
			case !c.check(opened.(*Backend)):
				t.Errorf("opened %s", opened.Description())
			}
			if err == nil {
				opened.Finalize()
			}
		})
	}
}

// TestDescribe: what the system says about itself can be true.
func TestDescribe(t *testing.T) {
	m := Describe()
	if m.Cores < 1 || m.Threads < m.Cores || m.Available < 0 || m.Available > m.Memory {
		t.Errorf("impossible: %+v", m)
	}
	if runtime.GOOS == "linux" && (m.Memory < 1<<28 || m.Available == 0) {
		t.Errorf("%+v", m)
	}
}
