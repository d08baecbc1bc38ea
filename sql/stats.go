package sql

import "sync"

// tableStats guesses how many rows tables have: what the last complete scan
// counted, moved by the writes since. Plans depend on it, results never do.
type tableStats struct {
	mu   sync.Mutex
	byID map[uint32]int64
}

func (s *tableStats) rows(id uint32) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.byID[id]
	return n, ok
}

// set records a count.
func (s *tableStats) set(id uint32, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[uint32]int64{}
	}
	s.byID[id] = n
}

// move notes that rows were added or removed.
func (s *tableStats) move(id uint32, by int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[uint32]int64{}
	}
	if n, ok := s.byID[id]; ok || by > 0 {
		s.byID[id] = max(n+by, 0)
	}
}
