# Nanoseconds a call by size; `data' and `png' are given.
set terminal pngcairo size 1400,640 font "Sans,11"
set output png
set datafile separator "\t"
set logscale xy
set xrange [6:1500000]
set yrange [1:1000000]
set xtics ("8 B" 8, "64 B" 64, "1 KiB" 1024, "4 KiB" 4096, "64 KiB" 65536, "1 MiB" 1048576)
set ytics ("1 ns" 1, "10 ns" 10, "100 ns" 100, "1 us" 1000, "10 us" 10000, "100 us" 100000, "1 ms" 1000000)
set grid xtics ytics lt 1 lw 1 lc rgb "#d0d0d0"
set key top left
set multiplot layout 1,2
set title "Reading: time a call"
plot data using 1:5 skip 1 with linespoints lw 2 pt 5 lc rgb "#888888" title "raw file:pread", \
     data using 1:2 skip 1 with linespoints lw 3 pt 7 lc rgb "#0060ad" title "emmap:pread", \
     data using 1:7 skip 1 with linespoints lw 2 pt 9 dt 2 lc rgb "#dd8800" title "binary:copy", \
     data using 1:3 skip 1 with linespoints lw 3 pt 7 lc rgb "#009e73" title "emmap:pread, direct", \
     data using 1:8 skip 1 with linespoints lw 2 pt 1 dt 3 lc rgb "#000000" title "memcpy in C"
set title "Writing: time a call"
plot data using 1:6 skip 1 with linespoints lw 2 pt 5 lc rgb "#888888" title "raw file:pwrite", \
     data using 1:4 skip 1 with linespoints lw 3 pt 7 lc rgb "#0060ad" title "emmap:pwrite", \
     data using 1:9 skip 1 with linespoints lw 2 pt 9 dt 2 lc rgb "#dd8800" title "memcpy in a NIF", \
     data using 1:8 skip 1 with linespoints lw 2 pt 1 dt 3 lc rgb "#000000" title "memcpy in C"
unset multiplot
