package cpu

import (
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/gomlx/compute/support/humanize"
	"github.com/polargo/polar/backend/cpu/program"
)

const (
	// The pool keeps at most keepAlways bytes, or half of what is in use where that is more.
	keepAlways = 64 << 20

	// Allocations from checkFrom bytes on look first whether the machine has so much memory left. Looking takes about 30 µs,
	// the first touch of 1 MiB about 250 µs.
	checkFrom = 1 << 20
)

// block is aligned memory of a size class. Whoever holds it may write to it; put gives it back.
type block struct {
	data []byte
	age  uint64 // the pool's count of collections when it was put back
}

// pool keeps freed blocks by their size class, so that memory is touched for the first time only once: the system takes 0.25 ms
// to provide a fresh MB. Blocks that were not needed between two garbage collections are given up.
type pool struct {
	mu          sync.Mutex
	free        map[int][]*block // by class; the last was used last
	kept        int64            // bytes in free
	collections uint64
	closed      bool

	// total is the bytes of all blocks that exist, kept or in use. It is apart from the pool so that blocks do not keep that alive.
	total *atomic.Int64
}

func newPool() *pool {
	p := &pool{free: map[int][]*block{}, total: new(atomic.Int64)}
	watch(weak.Make(p))
	return p
}

// watch calls trim after every garbage collection for as long as the pool lives.
func watch(p weak.Pointer[pool]) {
	sentinel := new(*int) // has a pointer, so that it is not batched with other tiny objects
	runtime.AddCleanup(sentinel, func(p weak.Pointer[pool]) {
		if pool := p.Value(); pool != nil && pool.trim() {
			watch(p)
		}
	}, p)
}

// class is the size of block that n bytes get: at most an eighth more, at least a cache line.
func class(n int) int {
	granule := max(program.Align, 1<<max(bits.Len(uint(max(n, 1)-1))-4, 0))
	return (max(n, 1) + granule - 1) / granule * granule
}

// get returns a block of at least n bytes with any content. It fails if the machine has not so much memory left.
func (p *pool) get(n int) (*block, error) {
	size := class(n)
	p.mu.Lock()
	if list := p.free[size]; len(list) > 0 {
		b := list[len(list)-1]
		list[len(list)-1] = nil
		p.free[size] = list[:len(list)-1]
		p.kept -= int64(size)
		p.mu.Unlock()
		return b, nil
	}
	p.mu.Unlock()
	if err := p.reserve(int64(size)); err != nil {
		return nil, err
	}
	b := &block{data: program.Memory(size)}
	total := p.total
	total.Add(int64(size))
	runtime.AddCleanup(b, func(size int64) { total.Add(-size) }, int64(size))
	return b, nil
}

// put takes a block back. Nobody may use its memory afterwards.
func (p *pool) put(b *block) {
	size := len(b.data)
	p.mu.Lock()
	defer p.mu.Unlock()
	inUse := p.total.Load() - p.kept - int64(size)
	if p.closed || p.kept+int64(size) > max(keepAlways, inUse/2) {
		return
	}
	b.age = p.collections
	p.free[size] = append(p.free[size], b)
	p.kept += int64(size)
}

// trim is called after a garbage collection: it gives up what was put back before the one before. It returns false if the pool
// is closed.
func (p *pool) trim() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collections++
	for size, list := range p.free {
		old := 0
		for old < len(list) && list[old].age+1 < p.collections {
			old++
		}
		p.kept -= int64(old * size)
		if old == len(list) {
			delete(p.free, size)
			continue
		}
		p.free[size] = append([]*block(nil), list[old:]...)
	}
	return !p.closed
}

// empty gives all kept memory up.
func (p *pool) empty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free, p.kept = map[int][]*block{}, 0
}

func (p *pool) close() {
	p.empty()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// reserve returns an error if n bytes are more than can be allocated, even after a garbage collection.
func (p *pool) reserve(n int64) error {
	if n < checkFrom {
		return nil
	}
	if left, known := room(); !known || n <= left {
		return nil
	}
	p.empty()
	debug.FreeOSMemory()
	if left, _ := room(); n > left {
		return fmt.Errorf("out of memory: %s asked for, %s available", humanize.Bytes(n), humanize.Bytes(left))
	}
	return nil
}

// memory returns n bytes that no pool keeps, or an error if the machine has not so much memory left.
func (p *pool) memory(n int) ([]byte, error) {
	if err := p.reserve(int64(n)); err != nil {
		return nil, err
	}
	return program.Memory(n), nil
}
