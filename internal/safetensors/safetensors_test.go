package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	values := []float32{1, -2, 0.5, float32(math.Pi), 0, -0.25}
	tensors := []Tensor{
		FromFloat32("z.weight", []int{2, 3}, values),
		{Name: "step", DType: "I64", Data: binary.LittleEndian.AppendUint64(nil, 7)},
		FromFloat32("empty", []int{0, 4}, nil),
	}
	if err := Write(path, tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	file, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, shape, err := file.Float32("z.weight")
	if err != nil || !slices.Equal(got, values) || !slices.Equal(shape, []int{2, 3}) {
		t.Fatalf("z.weight = %v %v %v", got, shape, err)
	}
	step, err := file.Read("step")
	if err != nil || binary.LittleEndian.Uint64(step.Data) != 7 || len(step.Shape) != 0 {
		t.Fatalf("step = %+v, %v", step, err)
	}
	if file.Metadata()["format"] != "pt" || len(file.Names()) != 3 {
		t.Fatalf("metadata %v, names %v", file.Metadata(), file.Names())
	}
	if _, _, err := file.Float32("step"); err == nil {
		t.Fatal("an integer tensor was read as floating point")
	}
	if _, err := file.Read("none"); err == nil {
		t.Fatal("a missing tensor was read")
	}
}

// TestHalf compares every finite binary16 number with the definition (-1)^s 2^(e-15) (1+f/1024), in float64.
func TestHalf(t *testing.T) {
	for h := 0; h < 1<<16; h++ {
		sign, e, f := 1-2*float64(h>>15), (h>>10)&31, float64(h&1023)
		want := sign * math.Ldexp(1+f/1024, e-15)
		if e == 0 {
			want = sign * math.Ldexp(f/1024, -14)
		}
		got := float64(halfToFloat32(uint16(h)))
		if e == 31 {
			if f == 0 != math.IsInf(got, 0) || f != 0 != math.IsNaN(got) {
				t.Fatalf("%#x -> %v", h, got)
			}
			continue
		}
		if got != want || math.Signbit(got) != math.Signbit(want) {
			t.Fatalf("%#x -> %v, want %v", h, got, want)
		}
	}
}

func TestConversions(t *testing.T) {
	bf, err := toFloat32("BF16", []byte{0x80, 0x3f, 0x00, 0xc0})
	if err != nil || !slices.Equal(bf, []float32{1, -2}) {
		t.Fatalf("BF16 %v %v", bf, err)
	}
	f64, err := toFloat32("F64", binary.LittleEndian.AppendUint64(nil, math.Float64bits(-1.5)))
	if err != nil || !slices.Equal(f64, []float32{-1.5}) {
		t.Fatalf("F64 %v %v", f64, err)
	}
}

func TestBadFiles(t *testing.T) {
	header := func(text string, data int) []byte {
		out := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
		return append(append(out, text...), make([]byte, data)...)
	}
	cases := []struct {
		name, want string
		content    []byte
	}{
		{"empty", "too short", nil},
		{"header beyond the file", "header claims 1000 bytes", append(binary.LittleEndian.AppendUint64(nil, 1000), '{')},
		{"huge header", "header claims", append(binary.LittleEndian.AppendUint64(nil, 1<<62), '{')},
		{"not JSON", "not valid JSON", header("hello world", 0)},
		{"truncated data", "truncated", header(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 15)},
		{"wrong size", "do not hold the 16 bytes", header(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,12]}}`, 16)},
		{"overlap", "overlap", header(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12)},
		{"negative", "do not hold", header(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}}`, 4)},
		{"unknown type", `unknown type "F7"`, header(`{"a":{"dtype":"F7","shape":[4],"data_offsets":[0,4]}}`, 4)},
		{"overflowing shape", "too large", header(`{"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,0]}}`, 0)},
		{"negative shape", "negative dimension", header(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}`, 0)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad.safetensors")
			if err := os.WriteFile(path, c.content, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line naming the file and %q", err, c.want)
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	for name, tensors := range map[string][]Tensor{
		"short data": {{Name: "a", DType: "F32", Shape: []int{2}, Data: make([]byte, 7)}},
		"twice":      {FromFloat32("a", []int{1}, []float32{1}), FromFloat32("a", []int{1}, []float32{1})},
		"no type":    {{Name: "a", DType: "x", Shape: []int{1}, Data: []byte{0}}},
	} {
		if err := Write(path, tensors, nil); err == nil {
			t.Errorf("%s: written", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: left a file", name)
		}
	}
}

// FuzzOpen holds that no content makes the reader panic, and that what it accepts it can read.
func FuzzOpen(f *testing.F) {
	text := `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	f.Add([]byte(fmt.Sprintf("%s%s    ", binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text)))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path)
		if err != nil {
			return
		}
		defer file.Close()
		for _, name := range file.Names() {
			if _, err := file.Read(name); err != nil {
				t.Fatalf("accepted but cannot read: %v", err)
			}
		}
	})
}
