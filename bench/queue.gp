# Nanoseconds of a push and a take by size; `data' and `png' are given.
set terminal pngcairo size 1500,680 font "Sans,11"
set output png
set datafile separator "\t"
set datafile missing "NaN"
set logscale xy
set xrange [70:1500000]
set yrange [10:100000000]
set xtics ("100 B" 100, "1 KiB" 1024, "64 KiB" 65536, "1 MiB" 1048576)
set ytics ("10 ns" 10, "100 ns" 100, "1 us" 1000, "10 us" 10000, "100 us" 100000, "1 ms" 1000000, "10 ms" 10000000, "100 ms" 100000000)
set grid xtics ytics lt 1 lw 1 lc rgb "#d0d0d0"
set multiplot layout 1,2 margins 0.06,0.81,0.07,0.93 spacing 0.06
do for [many = 0:1] {
    c = many * 10
    if (many) { unset key } else { set key at screen 0.99,0.93 top right reverse Left spacing 1.4 }
    set title many ? "100 pushed and 100 taken at once: time a message" : "A push and a take: time a message"
    plot data using 1:(column(10 + c)) skip 1 with linespoints lw 2 pt 4 lc rgb "#aa4499" title "dets", \
         data using 1:(column(11 + c)) skip 1 with linespoints lw 2 pt 6 lc rgb "#882255" title "SQLite, WAL", \
         data using 1:(column(9 + c)) skip 1 with linespoints lw 2 pt 8 lc rgb "#ddaa33" title "mnesia disc\\_copies", \
         data using 1:(column(8 + c)) skip 1 with linespoints lw 2 pt 5 lc rgb "#888888" title "file", \
         data using 1:(column(7 + c)) skip 1 with linespoints lw 2 pt 12 lc rgb "#117733" title "disk\\_log", \
         data using 1:(column(5 + c)) skip 1 with linespoints lw 2 pt 9 dt 2 lc rgb "#dd8800" title "queue in a gen\\_server", \
         data using 1:(column(6 + c)) skip 1 with linespoints lw 2 pt 11 dt 2 lc rgb "#cc3311" title "ets", \
         data using 1:(column(3 + c)) skip 1 with linespoints lw 4 pt 7 lc rgb "#0060ad" title "emmap", \
         data using 1:(column(4 + c)) skip 1 with linespoints lw 2 pt 1 dt 3 lc rgb "#000000" title "ring, a NIF", \
         data using 1:(column(2 + c)) skip 1 with linespoints lw 2 pt 2 dt 3 lc rgb "#555555" title (many ? "" : "ring, in C")
}
unset multiplot
