-- How revenue is spread over customers.
--
-- Question  How much of the revenue hangs on how few customers?
-- Reads     orders
-- Result    customers in tenths by what they spent in the last 365 days, the best first. percent_of_revenue adds up to
--           100; running_percent says what the best tenths bring together. The usual rule of thumb (a fifth of the
--           customers, four fifths of the revenue) is the second row: above 80 the shop depends on few.

WITH spenders AS (
    SELECT customer_id, sum(amount) AS spent, count(*) AS orders
    FROM orders
    WHERE order_ts > (SELECT max(order_ts) FROM orders) - INTERVAL '365 days'
    GROUP BY customer_id
),
tenths AS (
    SELECT *, ntile(10) OVER (ORDER BY spent DESC, customer_id) AS tenth FROM spenders
)
SELECT
    tenth,
    count(*)                                                                                    AS customers,
    min(spent)                                                                                  AS spent_from,
    max(spent)                                                                                  AS spent_to,
    CAST(avg(CAST(orders AS double precision)) AS numeric(10, 1))                               AS mean_orders,
    sum(spent)                                                                                  AS revenue,
    CAST(100 * sum(spent) / sum(sum(spent)) OVER () AS numeric(5, 1))                           AS percent_of_revenue,
    CAST(100 * sum(sum(spent)) OVER (ORDER BY tenth) / sum(sum(spent)) OVER () AS numeric(5, 1)) AS running_percent
FROM tenths
GROUP BY tenth
ORDER BY tenth;
