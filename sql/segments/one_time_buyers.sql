-- One-time buyers.
--
-- Question  Who has ordered exactly once, and what is the chance that they still come back?
-- Reads     orders, customers
-- Result    first a life table: of the customers who had not ordered again by day days_from after their first order, how many
--           did by day days_to. It sinks from row to row: a reminder is worth most early. Only customers whose first order is
--           at least days_to old count in a row, so that everybody had the whole time to come back.
--           Then the list: the 50 one-time buyers who spent most among those from 14 days to a year ago, each with the chance
--           of their row of the life table. All of them are customers of one order, the campaign's segment.

CREATE OR REPLACE VIEW first_and_second_orders AS
WITH numbered AS (
    SELECT customer_id, order_ts, amount, row_number() OVER (PARTITION BY customer_id ORDER BY order_ts, order_id) AS nth
    FROM orders
)
SELECT
    customer_id,
    sum(CASE WHEN nth = 1 THEN amount END)                                                              AS first_amount,
    date_part('epoch', (SELECT max(order_ts) FROM orders) - min(order_ts)) / 86400                      AS days_known,
    date_part('epoch', max(CASE WHEN nth = 2 THEN order_ts END) - min(order_ts)) / 86400                AS days_to_second
FROM numbered
GROUP BY customer_id;

CREATE OR REPLACE VIEW second_order_life_table AS
WITH stretches(days_from, days_to) AS (
    VALUES (0, 14), (14, 30), (30, 60), (60, 90), (90, 180), (180, 365)
)
SELECT
    s.days_from,
    s.days_to,
    count(*)                                                                    AS not_back_yet,
    count(CASE WHEN f.days_to_second < s.days_to THEN 1 END)                    AS came_back,
    CAST(100.0 * count(CASE WHEN f.days_to_second < s.days_to THEN 1 END) / count(*) / (s.days_to - s.days_from) * 30
         AS numeric(5, 1))                                                      AS percent_a_month
FROM stretches s
JOIN first_and_second_orders f
  ON f.days_known >= s.days_to AND (f.days_to_second IS NULL OR f.days_to_second >= s.days_from)
GROUP BY s.days_from, s.days_to;

SELECT * FROM second_order_life_table ORDER BY days_from;

SELECT
    f.customer_id,
    c.country,
    CAST(round(f.days_known) AS int)    AS days_since_only_order,
    f.first_amount                      AS spent,
    t.percent_a_month                   AS percent_coming_back_a_month
FROM first_and_second_orders f
JOIN customers c ON c.customer_id = f.customer_id
JOIN second_order_life_table t ON f.days_known >= t.days_from AND f.days_known < t.days_to
WHERE f.days_to_second IS NULL AND f.days_known >= 14
ORDER BY f.first_amount DESC, f.customer_id
LIMIT 50;
