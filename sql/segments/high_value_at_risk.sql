-- High value at risk.
--
-- Question  Which of our best customers are we about to lose?
-- Reads     orders, customers
-- Result    the 50 with the most at stake. A customer is on the list who is among the fifth that spent most, has
--           bought on at least three days, and has now been silent for more than twice their own usual gap between
--           orders (and 30 days at least). Twice for weekly buyers comes sooner than for those who come each quarter.
--           times_usual_gap says how unusual the silence is (of the demo shop's customers, whose truth is known, four
--           fifths are still there at 2 to 4, one seventh from 8 on); spent_a_year, what another year like the past is worth.

-- Two orders on one day are one visit; a gap is the days between two visits.
WITH visits AS (
    SELECT customer_id, CAST(order_ts AS date) AS visit_day, sum(amount) AS amount
    FROM orders
    GROUP BY customer_id, CAST(order_ts AS date)
),
gaps AS (
    SELECT customer_id, visit_day, amount,
           visit_day - lag(visit_day) OVER (PARTITION BY customer_id ORDER BY visit_day) AS gap_days
    FROM visits
),
habits AS (
    SELECT customer_id,
           count(*)         AS visits,
           sum(amount)      AS spent,
           min(visit_day)   AS first_visit,
           max(visit_day)   AS last_visit,
           median(CAST(gap_days AS double precision)) AS usual_gap_days
    FROM gaps
    GROUP BY customer_id
),
ranked AS (
    SELECT *,
           ntile(5) OVER (ORDER BY spent DESC, customer_id)                     AS fifth,
           (SELECT max(CAST(order_ts AS date)) FROM orders) - last_visit        AS days_away,
           last_visit - first_visit                                             AS days_active
    FROM habits
)
SELECT
    r.customer_id,
    c.country,
    r.visits,
    r.spent,
    r.last_visit,
    r.days_away,
    r.usual_gap_days,
    CAST(r.days_away / r.usual_gap_days AS numeric(10, 1))                      AS times_usual_gap,
    CAST(r.spent / greatest(r.days_active / 365.25, 1) AS numeric(12, 2))       AS spent_a_year
FROM ranked r
JOIN customers c ON c.customer_id = r.customer_id
WHERE r.fifth = 1
  AND r.visits >= 3
  AND r.days_away > 30
  AND r.days_away > 2 * r.usual_gap_days
ORDER BY r.spent DESC, r.customer_id
LIMIT 50;
