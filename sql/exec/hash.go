package exec

import "hash/maphash"

// Operators that hash keep what fits into the budget and divide the rest by
// hash over fanout files, each of which is then worked on alone, if need be by
// dividing it again with another seed.
const (
	fanout = 16
	// maxDepth bounds the dividing: what is still too large then has one key.
	maxDepth = 6
)

var partitionSeeds = func() (s [maxDepth + 1]maphash.Seed) {
	for i := range s {
		s[i] = maphash.MakeSeed()
	}
	return s
}()

func partitionOf(key []byte, depth int) int {
	return int(maphash.Bytes(partitionSeeds[depth], key) % fanout)
}

// partitions is a set of row files, opened as needed.
type partitions struct {
	flow  *Flow
	files [fanout]*rowFile
}

func (p *partitions) file(i int) (*rowFile, error) {
	if p.files[i] == nil {
		var err error
		if p.files[i], err = p.flow.newRowFile(); err != nil {
			return nil, err
		}
	}
	return p.files[i], nil
}

// take hands over partition i, which may be nil.
func (p *partitions) take(i int) *rowFile {
	f := p.files[i]
	p.files[i] = nil
	return f
}

func (p *partitions) close() {
	if p == nil {
		return
	}
	for i, f := range p.files {
		f.close()
		p.files[i] = nil
	}
}

// spilled is a file of rows still to be worked on, divided depth times so far.
type spilled struct {
	file  *rowFile
	depth int
}

// mapEntryBytes is what an entry of a Go map with string keys costs beside the key.
const mapEntryBytes = 48
